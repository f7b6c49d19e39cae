"""Prune a translation model once, have it translate without any update or fine-tuned, score, record.

The experiment of "Junk DNA Hypothesis" (arXiv 2310.02277), Setting 2, read top to bottom.
``python Translation_prune_oneshot.py --help`` explains every flag; the library is in ``junkdna/`` beside this folder.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends what is not under way yet, without a traceback
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare clone: the library lies beside this folder

from junkdna.families.translation.cell import TranslationCell
from junkdna.families.translation.family import Translation
from junkdna.runs import main as runs
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared


def run(cell: TranslationCell, shared: Shared, journal: Journal) -> None:
    """One run: prune once and translate. Zero-shot, nothing is trained; few-shot, the model is fine-tuned, with the
    mask held after pruning, or before pruning.

    The heavy libraries are imported here, so that ``--help`` and mistakes in flags answer at once.
    """
    from junkdna import choose_masks, find_scope, hold
    from junkdna.families.removed import Removed
    from junkdna.families.translation import translating

    # Load the text, its tokens, the pre-trained bits. A grid loads each of them once.
    inputs = translating.load(cell, shared, journal)
    model = inputs.translator.reset(cell.seed)
    journal.lap("load")

    def choose():
        """Score every weight in scope, and choose exactly as many as are to be removed."""
        scope = find_scope(model, embeddings=not cell.noembed, exclude=cell.prune_exclude)
        return choose_masks(scope, cell.pattern, cell.score, seed=cell.seed, mask_file=cell.mask_file)

    def remove() -> Removed:
        """Remove them; cells whose masks are equal share them."""
        masks, census = shared.keep("masks", cell.pruned, choose)
        return Removed(masks=masks, census=census, held=hold(model, masks, cell.hold))

    removed = remove() if cell.prunes_first else Removed()
    if cell.prune_after_training:
        choose()  # what cannot be pruned is refused before it has been trained for hours
    journal.lap("prune")

    with translating.under_way(cell, shared, journal, inputs, removed) as translation:
        # Few-shot: fine-tune, from a checkpoint if the run was interrupted. Zero-shot has no epochs.
        for epoch in translation.epochs():
            translation.note(epoch)
        # The paper's few-shot: remove weights of what was learned, and do not train again.
        if cell.prune_after_training:
            translation.prune(remove)
        # Translate the test text, with weights that are checked exactly, and score.
        translation.record()


FAMILY = Translation(run)


def main(argv: list[str] | None = None) -> int:
    """Run what a command line asks for; return the exit code."""
    return runs.main(FAMILY, argv)


if __name__ == "__main__":
    sys.exit(main())
