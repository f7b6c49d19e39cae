"""What ``scripts/bench.py`` is made of: three ways to do the same work, and the measuring of them.

* ``work``       -- the work: a model's folder, a task's texts, the flags that all contenders are given
* ``padded``     -- what both baselines have in common
* ``reference``  -- the plain way, written out
* ``modern``     -- today's libraries, as a careful user takes them
* ``holding``    -- masks held by the public API in loops that are not the project's
* ``product``    -- the project's own command, watched from outside
* ``masking``    -- both ways of making a mask
* ``contender``  -- what one process with a model in training is asked to do
* ``measure``    -- time, memory, floating-point operations, and what several measurements come to
* ``processes``  -- starting such processes and talking to them
* ``parts``      -- the comparisons, each a list of rows
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # where the library lies in a clone that is not installed
