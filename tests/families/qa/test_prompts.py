"""The prompts, character for character."""

import pytest

from conftest import tiny_tokenizer
from junkdna.errors import UserError
from junkdna.families.qa.prompts import build
from junkdna.families.qa.questions import Question

ROME = Question("1", "where is it?", ("Rome", "Roma"), "It is in\n Rome. Not in Paris.")
ANN = Question("2", "who did it?", ("Ann",), "Nobody knows. Ann!")


def test_the_papers_prompts():
    opened = build([ROME, ANN], book="open", context_characters=3072)
    assert opened.texts == (
        "It is in\n Rome. Not in Paris.\n\nBased on these texts, answer these questions:\nQ: where is it?\nA:",
        "Nobody knows. Ann!\n\nBased on these texts, answer these questions:\nQ: who did it?\nA:",
    )
    assert (opened.cut, opened.lost, opened.whole, len(opened)) == (0, 0, False, 2)
    closed = build([ROME], book="closed", context_characters=3)
    assert closed.texts == ("Answer these questions:\nQ: where is it?\nA:",)
    assert (closed.cut, closed.lost) == (0, 0)


def test_the_cut_and_what_it_loses():
    """The answer of ROME ends at character 14, that of ANN at 17; one that only begins before the cut is lost."""
    found = [build([ROME, ANN], book="open", context_characters=n) for n in (13, 14, 17, 18, None)]
    assert [(made.cut, made.lost) for made in found] == [(2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    assert found[0].texts[1].startswith("Nobody knows.\n\nBased on")
    elsewhere = Question("3", "what?", ("Ro", "London", "!"), "It is in Rome." * 9)
    assert build([elsewhere], book="open", context_characters=3).lost == 0  # no word of the text is an answer


def test_solved_examples_stand_in_front_and_are_cut_alike():
    closed = build([ROME], book="closed", context_characters=3072, examples=[ANN, ROME])
    assert closed.texts[0] == (
        "Answer these questions:\nQ: who did it?\nA: Ann\n\n"
        "Answer these questions:\nQ: where is it?\nA: Rome\n\n"
        "Answer these questions:\nQ: where is it?\nA:"
    )
    opened = build([ROME], book="open", context_characters=6, examples=[ANN])
    ask = "Based on these texts, answer these questions:\nQ: "
    assert opened.texts[0] == f"Nobody\n\n{ask}who did it?\nA: Ann\n\nIt is \n\n{ask}where is it?\nA:"
    assert (opened.cut, opened.lost) == (1, 1)


def test_a_chat_template_makes_turns_of_them():
    tokenizer = tiny_tokenizer()
    with pytest.raises(UserError, match=r"^chat_template: the model's tokenizer has none"):
        build([ROME], book="closed", context_characters=None, tokenizer=tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[go]{% endif %}"
    )
    made = build([ROME], book="closed", context_characters=None, examples=[ANN], tokenizer=tokenizer)
    ask = "Answer these questions:\nQ: "
    assert made.texts == (f"[user]{ask}who did it?\nA:[assistant]Ann[user]{ask}where is it?\nA:[go]",)
    assert made.whole
    tokenizer.chat_template = "{{ raise_exception('no users') }}"
    with pytest.raises(UserError, match=r"^chat_template: the model's template fails: TemplateError: no users"):
        build([ROME], book="closed", context_characters=None, tokenizer=tokenizer)


def test_a_model_that_can_think_first_is_told_to_answer():
    """Qwen 3's template thinks unless it is told not to; its answer's first line would be the mark of a thought."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    )
    made = build([ROME], book="closed", context_characters=None, tokenizer=tokenizer)
    assert made.texts == ("Answer these questions:\nQ: where is it?\nA:<think></think>",)


def test_an_open_book_needs_texts():
    bare = Question("x", "who?", ("Ann",))
    for questions, examples in (([ROME, bare], []), ([ROME], [bare])):
        with pytest.raises(UserError, match=r"^book open: 1 of 2 questions have no text, the first with id 'x'"):
            build(questions, book="open", context_characters=9, examples=examples)
    assert len(build([bare], book="closed", context_characters=9)) == 1
    with pytest.raises(UserError, match=r"^book shut: unknown; known: open, closed"):
        build([ROME], book="shut", context_characters=9)
