"""The GLUE tasks as data: where their text stands, what their labels are, what is measured.

Label order is that of ``nyu-mll/glue`` on the Hub; a number is a class index everywhere else in the program. Metrics
are GLUE's own (Wang et al. 2019, section 3). Nothing is read here: ``reading`` does that.
"""

from __future__ import annotations

from dataclasses import dataclass

from junkdna.errors import Fault, UserError, did_you_mean

HUB_NAME = "nyu-mll/glue"


@dataclass(frozen=True)
class Task:
    """One task.

    ``train_rows`` counts the Hub's training rows, to tell long runs from short ones before anything is fetched.
    ``columns`` names its one or two texts on the Hub and ``tsv_columns`` the same in the standard GLUE download (an
    integer is a position in a file without header). ``labels`` is empty for a regression. ``evals`` maps the key under
    which results are written to (Hub split, file in the download). With ``odd_texts`` an empty text, or one like
    ``n/a``, may be the original's own, and stays; elsewhere it is a missing value. With ``short_rows`` the original
    has rows that lack columns, and they are left out, as on the Hub; elsewhere such a file is damaged.
    """

    name: str
    folder: str
    train_rows: int
    columns: tuple[str, ...]
    tsv_columns: tuple[str | int, ...]
    tsv_label: str | int
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    evals: tuple[tuple[str, str, str], ...] = (("eval", "validation", "dev.tsv"),)
    odd_texts: bool = False
    short_rows: bool = False

    @property
    def regression(self) -> bool:
        return not self.labels


ENTAILMENT = ("entailment", "not_entailment")
PAIR = ("sentence1", "sentence2")
MNLI_EVALS = (
    ("eval", "validation_matched", "dev_matched.tsv"),
    ("eval_mm", "validation_mismatched", "dev_mismatched.tsv"),
)

TASKS = {
    task.name: task
    for task in (
        Task("cola", "CoLA", 8551, ("sentence",), (3,), 1, ("unacceptable", "acceptable"), ("matthews_correlation",)),
        Task("sst2", "SST-2", 67349, ("sentence",), ("sentence",), "label", ("negative", "positive")),
        Task("mrpc", "MRPC", 3668, PAIR, ("#1 String", "#2 String"), "Quality", ("not_equivalent", "equivalent"),
             ("accuracy", "f1")),
        Task("qqp", "QQP", 363846, ("question1", "question2"), ("question1", "question2"), "is_duplicate",
             ("not_duplicate", "duplicate"), ("accuracy", "f1"), odd_texts=True, short_rows=True),
        Task("stsb", "STS-B", 5749, PAIR, PAIR, "score", (), ("pearson", "spearmanr")),
        Task("mnli", "MNLI", 392702, ("premise", "hypothesis"), PAIR, "gold_label",
             ("entailment", "neutral", "contradiction"), evals=MNLI_EVALS, odd_texts=True),
        Task("qnli", "QNLI", 104743, ("question", "sentence"), ("question", "sentence"), "label", ENTAILMENT,
             odd_texts=True),
        Task("rte", "RTE", 2490, PAIR, PAIR, "label", ENTAILMENT),
        Task("wnli", "WNLI", 635, PAIR, PAIR, "label", ("not_entailment", "entailment")),
    )
}  # fmt: skip


def task_name(text: str) -> str:
    """Return the canonical name of a task written in any case, with or without its dash (SST-2, STS-B)."""
    name = text.strip().lower().replace("-", "").replace("_", "")
    if name not in TASKS:
        reason = f"no such task{did_you_mean(name, TASKS)}; allowed: {' '.join(sorted(TASKS))}"
        raise UserError(Fault("task_name", text, reason))
    return name
