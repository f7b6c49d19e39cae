"""The objective of word problems: write the equation that gives the answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import nn

from junkdna.errors import Fault, UserError
from junkdna.families.encoder.data import Data
from junkdna.families.encoder.objective import Objective
from junkdna.families.encoder.tuning import Inputs
from junkdna.families.generating import by_length
from junkdna.families.reasoning.cell import ReasoningCell
from junkdna.families.reasoning.equations import value
from junkdna.families.reasoning.problems import Problems, recurring
from junkdna.families.reasoning.solver import DECODER, Equations, Sizes, Solver
from junkdna.families.reasoning.tasks import EQUATION, METRICS
from junkdna.families.reasoning.vocabulary import Vocabulary
from junkdna.families.reasoning.writing import Grammar, Written, write
from junkdna.runs.schema import metric
from junkdna.training import tokens
from junkdna.training.bucketing import grain_on
from junkdna.training.finetune import Evaluate
from junkdna.training.tokens import Features

METRIC = METRICS[EQUATION]
UNSEEN, EXACT = f"unseen_{METRIC}", "equation_accuracy"

SPARE = 4
"""So many more symbols than the longest training equation has may be written."""

FREQUENT = 100
"""Training equations that are tried as the one answer to all problems, the most frequent first."""


class WordProblems(Objective):
    """Write the equation of every problem; right is what gives its answer, in whatever form."""

    def __init__(self, cell: ReasoningCell, data: Data):
        self.cell, self.train, self.asked = cell, data.task.train, data.task.evals["eval"]
        self.vocabulary = Vocabulary.of(self.train.rows)
        self.most = max(len(row.equation) for row in self.train.rows) + SPARE
        self.recurring = recurring(self.train, self.asked)
        self.excluded = () if cell.prune_decoder else (f"^{re.escape(DECODER)}",)
        self._written: list[Written] = []

    @property
    def sizes(self) -> Sizes:
        cell = self.cell
        return Sizes(cell.decoder_layers, cell.decoder_heads, cell.decoder_inner, cell.decoder_dropout, most=self.most)

    @property
    def loads(self) -> tuple:
        cell = self.cell
        return (EQUATION, cell.model_name_or_path, cell.model_revision, self.vocabulary, self.sizes)

    def load(self) -> Solver:
        cell = self.cell
        return Solver(cell.model_name_or_path, cell.model_revision, self.vocabulary, self.sizes, cell.max_length)

    @property
    def reads(self) -> tuple:
        return (self.cell.show_numbers,)

    def tokenise(self, rows: Problems, tokenizer) -> Features:
        """The texts, with the equations' own symbols as labels."""
        texts = [(row.shown(self.cell.show_numbers),) for row in rows.rows]
        return tokens.tokenise(texts, [list(row.equation) for row in rows.rows], tokenizer, self.cell.max_length)

    def batches(self, inputs: Inputs) -> Equations:
        targets = [self.vocabulary.encode(row.equation) for row in self.train.rows]
        grain = grain_on(inputs.accelerator, inputs.pretrained.model)
        smoothing, collate = self.cell.label_smoothing, inputs.layout.collate
        return Equations(inputs.features["train"], targets, collate, smoothing, grain)

    def rates(self) -> tuple[tuple[str, float], ...]:
        own = self.cell.decoder_learning_rate
        return () if own is None else ((DECODER, own),)

    # --- evaluation --------------------------------------------------------------------------------------------------

    def evaluator(self, inputs: Inputs) -> Evaluate:
        def evaluate(model: nn.Module) -> dict[str, float]:
            self._written = written(self, inputs, model)
            return {f"eval_{name}": score for name, score in self._scores().items()}

        return evaluate

    def _scores(self) -> dict[str, float]:
        """Of all problems, and of those whose text is not in training; the latter is not known if there are none."""
        found = list(self._tokens())
        solved = [row.solved_by(symbols) for row, symbols in zip(self.asked.rows, found)]
        fresh = [right for right, known in zip(solved, self.recurring.masked) if not known]
        exact = [symbols == row.equation for row, symbols in zip(self.asked.rows, found)]
        scores = {METRIC: float(np.mean(solved)), EXACT: float(np.mean(exact))}
        return scores | ({UNSEEN: float(np.mean(fresh))} if fresh else {})

    def _tokens(self) -> Iterator[tuple[str, ...]]:
        return (self.vocabulary.decode(one.ids) for one in self._written)

    def predictions(self) -> Iterator[dict]:
        """What was written of every problem, last."""
        for row, one, symbols in zip(self.asked.rows, self._written, self._tokens()):
            yield {
                "id": row.id,
                "equation": " ".join(symbols),
                "value": value(symbols, row.numbers),
                "answer": row.answer,
                "ended": one.ended,
                "scores": {METRIC: float(row.solved_by(symbols)), EXACT: float(symbols == row.equation)},
            }

    def measures(self) -> list[dict]:
        names = [METRIC, EXACT, *([UNSEEN] if not all(self.recurring.masked) else [])]
        return [metric(f"eval_{name}", chance=0.0, main=name == METRIC) for name in names]

    def floor(self) -> float:
        """The share that one equation solves, the best of the training equations that are frequent."""
        return self._solved_by_all(self._usual) / len(self.asked.rows)

    def _solved_by_all(self, equation: tuple[str, ...]) -> int:
        return sum(row.solved_by(equation) for row in self.asked.rows)

    @cached_property
    def _usual(self) -> tuple[str, ...]:
        frequent = Counter(row.equation for row in self.train.rows).most_common(FREQUENT)
        return max((equation for equation, _ in frequent), key=self._solved_by_all)

    def lines(self) -> list[str]:
        none = sum(value(symbols, row.numbers) is None for row, symbols in zip(self.asked.rows, self._tokens()))
        return [f"equations {none:,} of {len(self.asked):,} have no value: malformed, or a division by zero"]

    # --- what is said of it ------------------------------------------------------------------------------------------

    def about(self, inputs: Inputs) -> dict:
        return {
            "kind": "word problems",
            "recurring": {"exact": sum(self.recurring.exact), "masked": sum(self.recurring.masked)},
            "unseen": len(self.asked) - sum(self.recurring.masked),
            "vocabulary": list(self.vocabulary.symbols),
            "unwritable": self.vocabulary.unknown(self.asked.rows),
            "usual": " ".join(self._usual),
        }

    def about_split(self, rows: Problems) -> dict:
        return {"noisy": rows.noisy}

    def words(self) -> str:
        known, exact = sum(self.recurring.masked), sum(self.recurring.exact)
        return (
            f"{len(self.vocabulary)} symbols; the text of {known:,} validation rows is in training, that of {exact:,} "
            "with the same numbers"
        )

    def parts(self) -> dict[str, str]:
        return {"vocabulary": hashlib.sha256(json.dumps(self.vocabulary.symbols).encode()).hexdigest()}


@torch.inference_mode()
def written(objective: WordProblems, inputs: Inputs, model: nn.Module) -> list[Written]:
    """Have the model write the equations of the problems that are asked, in their order; the same on every process.

    Raises UserError if its outputs are not finite.
    """

    def grammar_of(places: np.ndarray) -> Grammar | None:
        if not cell.well_formed:
            return None
        numbers = [len(objective.asked.rows[place].numbers) for place in places]
        return Grammar.of(objective.vocabulary, numbers, accelerator.device)

    model.eval()
    accelerator, cell, features = inputs.accelerator, objective.cell, inputs.features["eval"]
    found: dict[int, Written] = {}
    mine = range(accelerator.process_index, len(features), accelerator.num_processes)
    rows = [features.rows([i])[0]["input_ids"] for i in mine]
    for chosen in by_length(rows, cell.per_device_eval_batch_size):
        places = np.array([mine[i] for i in chosen])
        for part in tokens.parts(inputs.layout.collate, features.lengths, places):
            batch = inputs.layout.collate(features.rows(part))
            with accelerator.autocast():
                states, mask = model.read({name: x.to(accelerator.device) for name, x in batch.items()})
                made = write(model.decoder, states, mask, beams=cell.num_beams, grammar=grammar_of(part))
            found |= dict(zip(part.tolist(), made))
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        found = {place: one for share in gather_object([found]) for place, one in share.items()}
    if any(one.ended == "nan" for one in found.values()):
        reason = "training diverged, the model's outputs are not finite; a lower learning rate may help"
        raise UserError(Fault("learning_rate", "", reason))
    return [found[place] for place in range(len(features))]
