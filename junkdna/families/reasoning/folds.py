"""MAWPS in the five folds of SVAMP's authors, of which one training file is enough to have them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from junkdna.errors import Fault, UserError
from junkdna.families.reasoning import rows
from junkdna.families.reasoning.problems import Problem, Problems, key, problem
from junkdna.families.reasoning.tasks import FOLDS


def read(folder: Path, fold: int) -> tuple[Problems, Problems]:
    """Return the training and the evaluation problems of a fold; ``folder`` is ``cv_mawps``. Raises UserError.

    Fold 0 trains on its own file. The others train on the evaluation files of all other folds, and on the one problem
    that is in none of them: it stands in the training file of fold 0. Ids name the file: "fold2/17", "fold0/train/3".
    """
    if fold not in FOLDS:
        raise UserError(Fault("fold", fold, f"MAWPS has the folds {FOLDS[0]} to {FOLDS[-1]}"))
    file = folder / "fold0" / "train.csv"
    first = _read(file, "fold0/train")
    evals = {k: _read(folder / f"fold{k}" / "dev.csv", f"fold{k}") for k in (FOLDS if fold else [0])}
    asked = Problems.of(evals[fold], str(folder / f"fold{fold}" / "dev.csv"))
    if not fold:
        return Problems.of(first, str(file)), asked
    others = [row for k in FOLDS if k != fold for row in evals[k]]
    left_over = _left_over(file, first, [row for k in FOLDS if k for row in evals[k]])
    origin = f"{folder}/fold{{{','.join(str(k) for k in FOLDS if k != fold)}}}/dev.csv and 1 row of {file}"
    return Problems.of([*others, left_over], origin), asked


def _read(path: Path, name: str) -> list[Problem]:
    where = f"--data_dir: {path}"
    found = rows.each(where, rows.read(where, path), problem)
    return [replace(row, id=f"{name}/{row.id}") for row in found]


def _left_over(file: Path, training: list[Problem], others: list[Problem]) -> Problem:
    """The one problem of fold 0's training file that no evaluation file has; raises UserError if the files do not
    belong together.
    """
    missing, found = Counter(map(key, others)), []
    for row in training:
        if missing[key(row)]:
            missing[key(row)] -= 1
        else:
            found.append(row)
    if len(found) != 1 or missing.total():
        raise UserError(
            f"--data_dir: {file} should hold the problems of fold1/dev.csv to fold4/dev.csv and one more; it has "
            f"{len(found)} more and lacks {missing.total()}; are files of different copies together?"
        )
    return found[0]
