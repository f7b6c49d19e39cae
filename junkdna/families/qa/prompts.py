"""What a model is asked, word for word: the paper's prompts, with or without the text, after solved examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from junkdna.errors import Fault, UserError
from junkdna.families.qa.questions import Question
from junkdna.families.qa.scores import normalise

BOOKS = ("open", "closed")
OPEN = "Based on these texts, answer these questions:"
CLOSED = "Answer these questions:"


@dataclass(frozen=True)
class Prompts:
    """The prompts of all questions, in their order.

    ``whole`` says whether they hold all special tokens already, as those of a chat template do, so that the tokenizer
    must add none. ``cut`` counts the questions whose text was shortened; ``lost`` those of them that lost every answer:
    one stood in the text, none in what is left.
    """

    texts: tuple[str, ...]
    lost: int = 0
    cut: int = 0
    whole: bool = False

    def __len__(self) -> int:
        return len(self.texts)


def build(
    questions: Sequence[Question],
    *,
    book: str,
    context_characters: int | None,
    examples: Sequence[Question] = (),
    tokenizer=None,
) -> Prompts:
    """Return the prompts of an open or a closed book.

    An open book puts the first ``context_characters`` (None: all) of each question's text in front of it; a closed one
    uses no text. Each of the ``examples`` is asked in the same way, followed by its first answer. With a tokenizer its
    chat template makes turns of them. Raises UserError for an open book of a question without a text, and for a
    tokenizer without a template.
    """
    _check(book, (*questions, *examples), tokenizer)
    shown = [(_asked(example, book, context_characters), example.answers[0]) for example in examples]
    asked = [_asked(question, book, context_characters) for question in questions]
    if tokenizer is None:
        front = "".join(f"{prompt} {answer}\n\n" for prompt, answer in shown)
        texts = [front + prompt for prompt in asked]
    else:
        texts = [_chat(tokenizer, shown, prompt) for prompt in asked]
    shortened = [row for row in questions if book == "open" and len(_text(row, context_characters)) < len(row.context)]
    lost = sum(_lost(row, context_characters) for row in shortened)
    return Prompts(tuple(texts), lost, len(shortened), whole=tokenizer is not None)


def _check(book: str, rows: Sequence[Question], tokenizer) -> None:
    if book not in BOOKS:
        raise UserError(Fault("book", book, f"unknown; known: {', '.join(BOOKS)}"))
    bare = [row.id for row in rows if row.context is None] if book == "open" else []
    if bare:
        reason = f"{len(bare):,} of {len(rows):,} questions have no text, the first with id {bare[0]!r}"
        raise UserError(Fault("book", book, f"{reason}; ask them with a closed book"))
    if tokenizer is not None and not getattr(tokenizer, "chat_template", None):
        raise UserError(Fault("chat_template", "", "the model's tokenizer has none; leave it out"))


def _text(question: Question, characters: int | None) -> str:
    """What is shown of a question's text."""
    return question.context[:characters]


def _asked(question: Question, book: str, characters: int | None) -> str:
    """A question with what stands before it, up to where its answer begins."""
    front = f"{_text(question, characters)}\n\n{OPEN}" if book == "open" else CLOSED
    return f"{front}\nQ: {question.question}\nA:"


def _chat(tokenizer, shown: Sequence[tuple[str, str]], prompt: str) -> str:
    """The same as turns of a conversation, up to where the model's begins.

    A template that lets its model think first, as Qwen 3's does unless told otherwise, is told not to: an answer is one
    short line, and the thoughts would be taken for it. Templates that do not ask have no use for the word.
    """
    turns = [{"role": "user", "content": prompt}]
    for asked, answer in reversed(shown):
        turns[:0] = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    except Exception as error:  # a template is a program of the model's authors
        reason = f"the model's template fails: {type(error).__name__}: {error}"
        raise UserError(Fault("chat_template", "", reason)) from None


def _lost(question: Question, characters: int | None) -> bool:
    """Whether the cut took every answer that the text has, compared word by word after normalisation."""
    answers = [f" {answer} " for answer in map(normalise, question.answers) if answer]

    def holds(text: str) -> bool:
        normal = f" {normalise(text)} "
        return any(answer in normal for answer in answers)

    return not holds(_text(question, characters)) and holds(question.context)
