"""Prune a pre-trained encoder once, fine-tune it with the mask held to choose answers or to write equations, record.

The experiment of "Junk DNA Hypothesis" (arXiv 2310.02277), Setting 4, in its pairs WinoGrande and CommonsenseQA, MAWPS
and SVAMP, read top to bottom. ``python Reasoning_prune_oneshot.py --help`` explains every flag; the library is in
``junkdna/`` beside this folder.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends what is not under way yet, without a traceback
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare clone: the library lies beside this folder

from junkdna.families.reasoning.cell import ReasoningCell
from junkdna.families.reasoning.family import Reasoning, read
from junkdna.runs import main as runs
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared


def run(cell: ReasoningCell, shared: Shared, journal: Journal) -> None:
    """One run: prune once, fine-tune with the mask held, evaluate after every epoch.

    The heavy libraries are imported here, so that ``--help`` and mistakes in flags answer at once.
    """
    from junkdna import choose_masks, find_scope, hold
    from junkdna.families.encoder import tuning
    from junkdna.families.reasoning.objectives import objective_of
    from junkdna.families.removed import Removed

    # Load the rows; the tokens; the pre-trained bits. A grid loads each of them once.
    inputs = tuning.load(cell, shared, journal, read, objective_of)
    model = inputs.pretrained.reset(cell.seed)  # the head, or the decoder, is drawn from the seed
    journal.lap("load")

    # Prune once: score every weight in scope, remove exactly as many as were asked for. A decoder stays dense.
    removed = Removed()  # a dense run removes nothing
    if not cell.dense:
        exclude = (*cell.prune_exclude, *inputs.objective.excluded)
        scope = find_scope(model, embeddings=not cell.noembed, exclude=exclude)
        masks, census = choose_masks(
            scope, cell.pattern, cell.score, seed=cell.seed, mask_file=cell.mask_file, fresh=inputs.pretrained.drawn
        )
        # Sparse transfer holds removed weights at 0, freezing at their values; sparse-to-dense lets them go.
        removed = Removed(masks=masks, census=census, held=hold(model, masks, cell.hold))
    journal.lap("prune")

    # Fine-tune, from a checkpoint if the run was interrupted. Held weights are checked exactly before every evaluation.
    with tuning.fine_tuning(cell, journal, inputs, removed) as tuned:
        for epoch in tuned.epochs():
            tuned.note(epoch)
        tuned.record()  # the last epoch counts, as in the paper


FAMILY = Reasoning(run)


def main(argv: list[str] | None = None) -> int:
    """Run what a command line asks for; return the exit code."""
    return runs.main(FAMILY, argv)


if __name__ == "__main__":
    sys.exit(main())
