"""Prune a causal language model once, layer by layer, ask it questions with and without a text, record.

The experiment of "Junk DNA Hypothesis" (arXiv 2310.02277), Setting 3, read top to bottom.
``python QA_prune_oneshot.py --help`` explains every flag; the library is in ``junkdna/`` beside this folder.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends what is not under way yet, without a traceback
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare clone: the library lies beside this folder

from junkdna.families.qa.cell import QACell
from junkdna.families.qa.family import QA
from junkdna.runs import main as runs
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared


def run(cell: QACell, shared: Shared, journal: Journal) -> None:
    """One run: prune once, ask, score. Nothing is retrained.

    The heavy libraries are imported here, so that ``--help`` and mistakes in flags answer at once.
    """
    from junkdna import choose_masks, decoder_scope, hold, prune_layerwise
    from junkdna.families.qa import asking

    # Load the questions, their prompts, the tokenizer, the calibration text. A grid loads each of them once.
    inputs = asking.load(cell, shared, journal)

    def pruned() -> asking.Pruned:
        model = inputs.pretrained.fresh()  # the pre-trained bits
        journal.lap("load")
        if cell.dense:
            return asking.Pruned(model=model)
        if cell.mask_file:
            masks, census = choose_masks(decoder_scope(model, cell.prune_exclude), mask_file=cell.mask_file)
            hold(model, masks, "sparse")
            return asking.Pruned(model=model, masks=masks, census=census)
        # Block by block: what goes into a block comes from the pruned blocks before it.
        with asking.walking(journal, model) as progress:
            walk = prune_layerwise(
                model,
                cell.pattern,
                cell.score,
                inputs=inputs.samples and inputs.samples.ids,
                seed=cell.seed,
                variant=cell.use_variant,
                exclude=cell.prune_exclude,
                device=inputs.device,
                on_block=progress,
            )
        return asking.Pruned(
            model=model, masks=walk.masks, census=walk.census, findings=walk.findings, seconds=walk.seconds
        )

    # Prune once for all cells that ask the same model: with or without a text, few or many examples, other questions.
    made = shared.keep("pruned", cell.pruned, pruned)
    journal.lap("prune")
    asking.ask(cell, shared, journal, inputs, made)


FAMILY = QA(run)


def main(argv: list[str] | None = None) -> int:
    """Run what a command line asks for; return the exit code."""
    return runs.main(FAMILY, argv)


if __name__ == "__main__":
    sys.exit(main())
