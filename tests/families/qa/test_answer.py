"""Answers in batches against a loop that writes one at a time, token by token, without padding and without a cache."""

import pytest
import torch
from letters import POSITIONS, SHAPES, make_model, make_tokenizer

from junkdna.families.qa.answer import Answer, answers, tokenise
from junkdna.families.qa.prompts import Prompts

NEW = 12
PROMPTS = Prompts(
    tuple(f"{'abc de ' * (i % 5)}Q: {'fghijk'[i % 6] * (1 + i % 3)}{'ace'[i % 3]}\nA:" for i in range(23)),
)


def ask(model, tokenizer, batch_size, prompts=PROMPTS, **changed):
    settings = {"max_new_tokens": NEW, "device": "cpu"} | changed
    return answers(model, tokenizer, tokenise(tokenizer, prompts), batch_size=batch_size, **settings)


@torch.inference_mode()
def plainly(model, tokenizer, text):
    """An answer by the definition."""
    ids = tokenizer(text)["input_ids"]
    written, ended = [], "length"
    while len(written) < NEW and ended == "length":
        logits = model(torch.tensor([ids + written]), use_cache=False).logits[0, -1]
        written.append(int(logits.argmax()))
        if written[-1] == tokenizer.eos_token_id:
            ended = "eos"
        elif "\n" in tokenizer.decode(written):
            ended = "line"
    text = tokenizer.decode(written, skip_special_tokens=True).split("\n")[0]
    return Answer(text, len(written), ended)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_batch_gives_what_one_at_a_time_gives(kind):
    tokenizer = make_tokenizer()
    model = make_model(kind)
    plain = [plainly(model, tokenizer, text) for text in PROMPTS.texts]
    assert ask(model, tokenizer, 1) == plain
    assert ask(model, tokenizer, 5) == plain
    assert ask(model, tokenizer, 64) == plain
    assert len({answer.raw for answer in plain}) > 5, plain


def test_every_end_is_met():
    """Over a few models: the line, the model's own end, and the number of tokens."""
    tokenizer = make_tokenizer()
    found = [answer for seed in range(4) for answer in ask(make_model("llama", seed), tokenizer, 23)]
    assert {answer.ended for answer in found} == {"line", "eos", "length"}
    for answer in found:
        assert "\n" not in answer.raw and "<" not in answer.raw
        assert answer.tokens == NEW if answer.ended == "length" else answer.tokens <= NEW
        assert len(answer.raw) <= answer.tokens
    assert any(answer.ended == "line" and answer.raw.endswith(".") for answer in found)


def test_a_batch_ends_with_its_last_row():
    tokenizer, model = make_tokenizer(), make_model("llama")
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    found = ask(model, tokenizer, 1, max_new_tokens=30)
    assert len(passes) == sum(answer.tokens for answer in found) < 30 * len(found)
    passes.clear()
    assert ask(model, tokenizer, 23, max_new_tokens=30) == found
    assert len(passes) == max(answer.tokens for answer in found)


def test_a_checkpoints_own_settings_change_nothing():
    tokenizer, model = make_tokenizer(), make_model("llama")
    plain = ask(model, tokenizer, 5)
    own = {
        "do_sample": True,
        "temperature": 3.0,
        "top_k": 3,
        "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 1,
        "min_new_tokens": 9,
        "forced_bos_token_id": 3,
        "forced_eos_token_id": 4,
        "suppress_tokens": [5, 6, 7],
        "num_beams": 3,
        "max_length": 3,
        "use_cache": False,
    }
    model.generation_config.update(**own)
    assert ask(model, tokenizer, 5) == plain
    assert {name: getattr(model.generation_config, name) for name in own} == own  # and are still there


@pytest.mark.parametrize("pad", [None, "</s>", "<s>", "<pad>"])
def test_what_pads_does_not_matter(pad):
    """None at all, the end token, another one, and one that the model has no row for."""
    tokenizer, model = make_tokenizer(**({"pad_token": pad} if pad else {})), make_model("gpt2")
    model.config.pad_token_id = model.generation_config.pad_token_id = -1
    before = len(tokenizer)
    assert ask(model, tokenizer, 7) == [plainly(model, tokenizer, text) for text in PROMPTS.texts]
    assert len(tokenizer) == before and model.get_input_embeddings().weight.shape[0] == len(make_tokenizer())


def test_all_end_tokens_of_a_checkpoint_end_an_answer():
    tokenizer, model = make_tokenizer(), make_model("llama")
    plain = ask(model, tokenizer, 5)
    ends = tokenizer.convert_tokens_to_ids(sorted({answer.raw[2] for answer in plain if len(answer.raw) > 3}))
    model.generation_config.eos_token_id = [1, *ends, 9999]
    letters = tokenizer.convert_ids_to_tokens(ends)
    for answer, other in zip(plain, ask(model, tokenizer, 5)):
        at = min((answer.raw.index(letter) for letter in letters if letter in answer.raw), default=None)
        assert other == (answer if at is None else Answer(answer.raw[:at], at + 1, "eos"))


def test_without_any_end_token_lines_end_all_the_same():
    tokenizer, model = make_tokenizer(eos_token=None), make_model("llama")
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    found = ask(model, tokenizer, 5)
    assert found == ask(model, tokenizer, 1)
    assert {answer.ended for answer in found} == {"line", "length"}


def test_logits_that_are_not_numbers_are_told_and_touch_no_other_row():
    tokenizer, model = make_tokenizer(), make_model("llama")
    plain = ask(model, tokenizer, 4)
    worst = max(range(len(plain)), key=lambda number: plain[number].tokens)
    for value, step in ((float("nan"), 0), (float("inf"), 3)):
        length = len(tokenizer(PROMPTS.texts[worst])["input_ids"]) + step

        def spoil(module, args, kwargs, output, value=value, length=length):
            """Spoil the row of the worst prompt, once it is ``length`` long."""
            ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
            if ids.shape[1] > 1:
                spoil.row = [tokenizer.decode(row[keep > 0]) == PROMPTS.texts[worst] for row, keep in zip(ids, mask)]
            for row, here in enumerate(spoil.row):
                if here and mask[row].sum() >= length:
                    output.logits[row, -1, 2] = value
            return output

        hook = model.register_forward_hook(spoil, with_kwargs=True)
        spoiled = ask(model, tokenizer, 4)
        hook.remove()
        same = [number for number, text in enumerate(PROMPTS.texts) if text == PROMPTS.texts[worst]]
        for number, (answer, other) in enumerate(zip(plain, spoiled)):
            expected = Answer(answer.raw[:step], step + 1, "nan") if number in same else answer
            assert other == expected


def test_lengths_and_special_tokens():
    def lengths(prompts):
        return list(map(len, tokenise(tokenizer, prompts)))

    tokenizer = make_tokenizer()
    assert lengths(PROMPTS) == list(map(len, PROMPTS.texts))
    assert max(lengths(PROMPTS)) + NEW <= POSITIONS
    assert lengths(Prompts(())) == [] == ask(make_model("gpt2"), tokenizer, 3, Prompts(()))
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert lengths(Prompts(("abc",))) == [4]  # a prompt does not end in an end mark
    assert lengths(Prompts(("<s>abc</s>",), whole=True)) == [5]  # a template says itself what it wants


def test_work_is_told_and_can_be_broken_off_between_batches():
    tokenizer, model = make_tokenizer(), make_model("gpt2")
    own, seen = model.generation_config, []

    def on_batch(done, total):
        seen.append((done, total))
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(model, tokenizer, 10, on_batch=on_batch)
    assert seen == [(10, 23), (20, 23)] and model.generation_config is own
