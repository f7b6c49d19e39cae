"""Questions with their accepted answers, and the texts that hold them where there are any."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import astuple, dataclass
from functools import cached_property

from junkdna.errors import Fault, UserError
from junkdna.families import textfiles
from junkdna.families.qa import hubs
from junkdna.families.qa.scores import normalise

PARTS = {
    "the question": ("question",),
    "answers": ("answers", "answer"),
    "a context": ("context", "ctxs"),
}
"""What a row holds, and the keys under which it may: one of them at a time."""


@dataclass(frozen=True)
class Question:
    """A question; ``answers`` (one or more) are all accepted, the first is the one to show. ``context`` is a text in
    which the answer should stand, or None.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    context: str | None = None


@dataclass(frozen=True)
class Questions:
    """The rows of a data set in their order, each with an id of its own; ``source`` says where they are from."""

    rows: tuple[Question, ...]
    source: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def unanswerable(self) -> int:
        """How many rows have no accepted answer of which anything is left after normalisation ("A", "+"): containment
        can never hold there.
        """
        return sum(not any(map(normalise, row.answers)) for row in self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that the rows hold, so that two runs can be seen to have asked the same."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(json.dumps(astuple(row)).encode() + b"\n")
        return digest.hexdigest()

    @property
    def has_contexts(self) -> bool:
        """Whether every row has a text."""
        return not self.without_context

    @cached_property
    def without_context(self) -> tuple[str, ...]:
        """The ids of the rows that have no text."""
        return tuple(row.id for row in self.rows if row.context is None)


def choose(
    questions: Questions, most: int | None, shots: int, seed: int
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Return the questions to ask, the first ``most`` rows (all for None), and ``shots`` solved examples.

    The examples are drawn with the seed from the rows that are not asked, in these or in other words that normalisation
    makes equal; where the rows are too few, fewer are asked. With the same rows asked, the examples of fewer shots are
    the first of those of more. Raises UserError if the rows are fewer than ``shots + 1``, or too few differ from those
    that are asked.
    """
    rows = questions.rows
    if shots >= len(rows):
        reason = f"{questions.source} has {len(rows)} row(s); examples are rows that are not asked, and one must be"
        raise UserError(Fault("shots", shots, reason))
    count = len(rows) - shots
    asked = rows[: count if most is None else min(most, count)]
    if shots == 0:
        return asked, ()
    rest = list(rows[len(asked) :])
    random.Random(seed).shuffle(rest)
    seen, examples = {normalise(row.question) for row in asked}, []
    for row in rest:
        if (words := normalise(row.question)) not in seen:  # an example must not be the answer to what is asked
            seen.add(words)
            examples.append(row)
    if len(examples) < shots:
        reason = f"{questions.source} has {len(examples)} question(s) beside those that are asked; ask fewer"
        raise UserError(Fault("shots", shots, f"{reason} with --max_eval_samples, or give fewer shots"))
    return asked, tuple(examples[:shots])


# --- files -----------------------------------------------------------------------------------------------------------


def read_file(path: str) -> Questions:
    """Read json lines (``.jsonl``, ``.json``, also ``.gz``): one object a line, other keys than these ignored.

    ``question`` is a text; ``answers`` or ``answer`` one text or a list of them; ``context`` a text, or ``ctxs`` a list
    of {"text", optionally "title"}; ``id`` a text or a whole number, the row's number if there is none. The texts of
    ``ctxs`` are joined by two newlines, each after its title. Raises UserError, naming file, row and line.
    """
    where = f"--data_file {path}"
    try:
        rows = textfiles.json_rows(textfiles.read(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read: {textfiles.reason_of(error)}") from None
    questions, first = [], {}
    for number, (line, row) in enumerate(rows, start=1):
        try:
            question = _question(row, number)
            if first.setdefault(question.id, number) != number:
                raise ValueError(f"has the id {question.id!r}, as row {first[question.id]} has")
        except ValueError as error:
            raise UserError(f"{where}: row {number} {error} (line {line})") from None
        questions.append(question)
    if not questions:
        raise UserError(f"{where}: has no rows")
    return Questions(tuple(questions), path)


def _question(row: dict, number: int) -> Question:
    """Return a row's question; raises ValueError."""
    name, question = _part(row, "the question")
    if question is None:
        raise ValueError(f"has no 'question' (its keys: {', '.join(list(row)[:20]) or 'none'})")
    made = Question(textfiles.row_id(row, number), textfiles.text_of(question, name), _answers(row), _context(row))
    textfiles.check_whole(json.dumps(astuple(made), ensure_ascii=False))
    return made


def _part(row: dict, what: str) -> tuple[str, object]:
    """Return the key under which a row holds something, and its value; None if it does not."""
    found = [name for name in PARTS[what] if row.get(name) is not None]
    if len(found) > 1:
        raise ValueError(f"has both {found[0]!r} and {found[1]!r}; give one")
    return (found[0], row[found[0]]) if found else ("", None)


def _answers(row: dict) -> tuple[str, ...]:
    name, value = _part(row, "answers")
    if value is None or value == []:
        raise ValueError("has no answers; give 'answers', a text or a list of texts")
    answers = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(textfiles.text_of(answer, name) for answer in answers))


def _context(row: dict) -> str | None:
    name, value = _part(row, "a context")
    if name == "ctxs":
        if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
            raise ValueError("has 'ctxs' that are not a list of objects with 'text'")
        return "\n\n".join(map(_passage, value)) or None
    if value is not None and not isinstance(value, str):
        raise ValueError(f"has a 'context' that is not a text but {textfiles.kind_of(value)}")
    return value if value and value.strip() else None


def _passage(part: dict) -> str:
    """A text after its title."""
    text = textfiles.text_of(part.get("text"), "ctxs")
    return f"{part['title']}\n{text}" if isinstance(part.get("title"), str) and part["title"].strip() else text


# --- the Hub ---------------------------------------------------------------------------------------------------------


def read_hub(task: str, most: int | None = None) -> Questions:
    """Read ``trivia_qa`` or ``nq_open``: the validation rows, or their first ``most``. Raises UserError.

    TriviaQA's rows hold a question once for the Web and once for Wikipedia, under one id: the first of them counts.
    """
    rows, source = hubs.read(task, most)
    once: dict[str, hubs.Row] = {}
    for row in rows:
        once.setdefault(row[0], row)
    kept, twice = tuple(Question(*row) for row in once.values()), len(rows) - len(once)
    return Questions(kept, f"{source}, without {twice:,} rows that repeat an id" if twice else source)
