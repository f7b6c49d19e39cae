"""Prune a pre-trained encoder once by magnitude, fine-tune it with the mask held, evaluate, record.

The rooms, in the order in which a run passes through them:

* ``flags``, ``request``, ``cell`` -- a command line becomes frozen, validated cells (no torch is imported up to here)
* ``glue``, ``data``   -- the tasks as data, and the reading and tokenising of them
* ``checkpoint``       -- pre-trained weights, tokenizer and a freshly drawn head
* ``patterns``, ``scope``, ``masks``, ``regimes`` -- what is removed, from where, and how it stays so
* ``finetune``, ``metrics``, ``progress``         -- the one training loop, and what it measures and shows
* ``records``          -- what a run leaves in its folder
* ``grid``, ``report`` -- many cells in one process; a tree of runs as a table and a figure
"""

__version__ = "0.1.0"
