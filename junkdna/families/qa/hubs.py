"""The tasks that come from the Hub: where they are, and how their columns are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from junkdna.errors import Fault, UserError, did_you_mean
from junkdna.families.qa.scores import normalise
from junkdna.models import hub

Row = tuple[str, str, tuple[str, ...], "str | None"]
"""Id, question, accepted answers, text."""

TOGETHER = 64
"""Rows that are read at once; one of TriviaQA may hold a megabyte of texts."""


@dataclass(frozen=True)
class HubTask:
    """A data set on the Hub, of which only ``files`` are fetched: the training texts of TriviaQA take gigabytes.

    ``read(row, number)`` makes a question of one of its rows, numbered from 1.
    """

    name: str
    files: str
    read: Callable[[dict, int], Row]
    columns: tuple[str, ...]


def read(task: str, most: int | None = None) -> tuple[list[Row], str]:
    """Return a task's rows, the first ``most`` of them, and its source with the commit. Raises UserError."""
    if task not in TASKS:
        reason = f"unknown task{did_you_mean(task, TASKS)}; known: {', '.join(TASKS)}; or give --data_file"
        raise UserError(Fault("task_name", task, reason))
    found = TASKS[task]
    try:
        files, commit = hub.fetch_files(found.name, found.files)
    except UserError as error:
        reason = f"{error.faults[0].reason}; give --data_file with questions of your own"
        raise UserError(Fault("task_name", task, reason)) from None
    rows = islice(hub.rows(files, found.columns, TOGETHER), most)
    source = f"{found.name} at {commit}, {found.files}"
    return [found.read(row, number) for number, row in enumerate(rows, start=1)], source


def _trivia_qa(row: dict, number: int) -> Row:
    """The paper's reading: the first Wikipedia page's text, then the first search result's, with nothing between.

    A question without either has an empty text, as there. Accepted are the normalised aliases. The answer as it is
    usually written stands first, in the place of the alias that it is once normalised, so that a solved example shows
    it so.
    """
    answer = row["answer"]
    aliases = dict.fromkeys(answer["normalized_aliases"])
    if (normal := normalise(answer["value"])) in aliases:
        aliases = dict.fromkeys([answer["value"], *(alias for alias in aliases if alias != normal)])
    pages, results = row["entity_pages"]["wiki_context"], row["search_results"]["search_context"]
    return row["question_id"], row["question"], tuple(aliases), "".join([*pages[:1], *results[:1]])


def _nq_open(row: dict, number: int) -> Row:
    """Natural Questions without texts."""
    return str(number), row["question"], tuple(dict.fromkeys(row["answer"])), None


TASKS = {
    "trivia_qa": HubTask(
        "mandarjoshi/trivia_qa",
        "rc/validation-*",
        _trivia_qa,
        ("question_id", "question", "answer", "entity_pages", "search_results"),
    ),
    "nq_open": HubTask("google-research-datasets/nq_open", "nq_open/validation-*", _nq_open, ("question", "answer")),
}
