"""Translations are those of the library for its right usage, whatever the batch, and nothing else decides them."""

import json
import shutil

import pytest
import tiny
import torch
import transformers

from junkdna.families.translation.translate import Output, fit, room, translate
from junkdna.models.translator import Translator

HOW = {"beams": 3, "length_penalty": 1.0, "max_new_tokens": 12, "batch_size": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.Made(tmp_path_factory.mktemp("tiny"))


def texts(count=8):
    """Sources of many lengths, one of them empty."""
    sources = tiny.parallel("en-de", count - 1, seed=3)[0]
    return [" ".join(text.split()[: 1 + number % 7]) for number, text in enumerate(sources)] + [""]


def outputs(translator, rows=None, direction=("en", "de"), **how):
    rows = translator.encode(texts()) if rows is None else rows
    return translate(translator, translator.model, translator.direction(*direction), rows, **(HOW | how))


LIBRARY = {
    "mbart": ("en_XX", "de_DE", "decoder_start_token_id"),
    "mbart50": ("en_XX", "de_DE", "forced_bos_token_id"),
    "m2m100": ("en", "__de__", "forced_bos_token_id"),
    "nllb": ("eng_Latn", "deu_Latn", "forced_bos_token_id"),
    "marian-many": (None, ">>deu<< ", None),
    "t5": (None, "translate English to German: ", None),
}


@pytest.mark.parametrize("kind", LIBRARY)
def test_translations_are_those_of_the_library(kind, made):
    """Its own tokenizer, start or forced token, and search; its padding is not let to be written, which fairseq and
    Marian never did.
    """
    translator = made.translator(kind)
    source, target, told = LIBRARY[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        made.folder(kind), **({"src_lang": source} if source else {})
    )
    sources = [text for text in texts() if text]
    given = tokenizer([text if told else target + text for text in sources], padding=True, return_tensors="pt")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(made.folder(kind))
    model.generation_config.forced_eos_token_id = None
    written = model.generate(
        **given,
        **({told: tokenizer.convert_tokens_to_ids(target)} if told else {}),
        suppress_tokens=[tokenizer.pad_token_id],
        num_beams=3,
        early_stopping=True,
        max_new_tokens=12,
    )
    theirs = [
        row[1:] if translator.end not in row[1:] else row[1 : row.index(translator.end, 1)] for row in written.tolist()
    ]
    ours = outputs(translator, translator.encode(sources))
    assert [one.text for one in ours] == [translator.decode(row) for row in theirs]
    assert [one.tokens - (one.ended == "eos") for one in ours] == list(map(len, theirs))
    assert len({one.text for one in ours}) > (kind not in ("t5", "mbart50"))


@pytest.mark.parametrize("kind", [kind for kind in tiny.KINDS if kind not in ("mt5", "umt5")])
def test_the_batch_decides_nothing(kind, made):
    translator = made.translator(kind)
    alone, some = outputs(translator, batch_size=1), outputs(translator, batch_size=3)
    assert alone == some == outputs(translator, batch_size=100)
    assert {one.ended for one in alone} <= {"eos", "length"} and all(1 <= one.tokens <= 12 for one in alone)
    rows = translator.encode(texts())
    assert outputs(translator, rows[::-1], batch_size=3) == alone[::-1]


def test_one_beam_is_greedy(made):
    translator = made.translator("marian")
    told, row = translator.direction("en", "de"), translator.encode(["the old cat saw"])[0]
    written = [told.start]
    while len(written) < 13 and written[-1] != translator.end:
        given = {"input_ids": torch.tensor([told.inputs(row)]), "decoder_input_ids": torch.tensor([written])}
        logits = translator.model.eval()(**given).logits[0, -1]
        logits[translator.padding] = -torch.inf
        written.append(int(logits.argmax()))
    (ours,) = outputs(translator, [row], beams=1)
    assert (ours.text, ours.tokens) == (translator.decode(written[1:]), len(written) - 1)


SPOILT = {
    "forced_eos_token_id": 2,
    "forced_bos_token_id": 0,
    "decoder_start_token_id": 0,
    "max_length": 4,
    "min_length": 3,
    "num_beams": 7,
    "no_repeat_ngram_size": 1,
    "repetition_penalty": 3.0,
    "length_penalty": -4.0,
    "bad_words_ids": [[7], [8]],
    "suppress_tokens": [9, 10],
    "do_sample": True,
    "temperature": 5.0,
    "num_return_sequences": 3,
    "eos_token_id": 5,
    "pad_token_id": 6,
    "bos_token_id": 7,
}


@pytest.mark.parametrize("kind", ["mbart", "mbart50"])
def test_nothing_of_the_checkpoints_generation_settings_counts(kind, made, tmp_path):
    clean = outputs(made.translator(kind))
    folder = shutil.copytree(made.folder(kind), tmp_path / kind)
    (folder / "generation_config.json").write_text(json.dumps(SPOILT))
    spoilt = Translator(str(folder))
    assert spoilt.model.generation_config.num_beams == 7
    assert outputs(spoilt) == clean
    assert spoilt.model.generation_config.num_beams == 7  # given back


def test_the_end_is_not_forced_at_the_cap(made):
    """mBART's own settings would have every translation end there, so that none were seen to be cut off."""
    assert made.translator("mbart").config.forced_eos_token_id == 2
    found = outputs(made.translator("mbart"), max_new_tokens=3)
    assert "length" in {one.ended for one in found} and {one.tokens for one in found if one.ended == "length"} == {3}


def test_the_target_language_is_the_one_asked_for(made):
    """Of mBART the start, of the others the first token: another language gives other translations."""
    for kind in ("mbart", "nllb", "marian-many"):
        assert outputs(made.translator(kind)) != outputs(made.translator(kind), direction=("en", "gu"))


@pytest.mark.parametrize("kind", ["mbart50", "t5"])
def test_more_beams_than_words(kind, made):
    translator = made.translator(kind)
    wide = outputs(translator, translator.encode(["the cat"]), beams=translator.config.vocab_size + 9, max_new_tokens=3)
    assert len(wide) == 1 and 1 <= wide[0].tokens <= 3


@pytest.mark.parametrize("kind", ["mbart", "marian", "m2m100", "t5"])
def test_sources_longer_than_the_positions_are_cut_and_counted(kind, made):
    translator = made.translator(kind)
    told = translator.direction("en", "de")
    long = translator.encode(["the old cat saw a bird . " * 12])[0]
    assert len(long) > tiny.POSITIONS
    most = room(translator, told)
    rows, cut = fit(translator, told, [long, long[:3]])
    if kind == "t5":
        assert most is None and cut == 0 and rows == [long, long[:3]]
    else:
        assert most == tiny.POSITIONS - len(told.before) - len(told.behind)
        assert cut == 1 and rows == [long[:most], long[:3]] and len(told.inputs(rows[0])) == tiny.POSITIONS
        with pytest.raises(ValueError, match=f"a source text has more than {most} tokens; fit cuts it"):
            outputs(translator, [long])
    found = outputs(translator, rows[:1], beams=2, max_new_tokens=3)
    assert len(found) == 1


@pytest.mark.parametrize("kind", ["mbart", "marian"])
def test_no_more_is_written_than_there_are_positions(kind, made):
    """A translation that never ends runs to the last position and no further."""
    translator = Translator(made.folder(kind))
    with torch.no_grad():
        translator.model.final_logits_bias[0, translator.end] = -1e4
    (one,) = outputs(translator, translator.encode(["the cat"]), beams=2, max_new_tokens=200)
    assert (one.tokens, one.ended) == (tiny.POSITIONS, "length")


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_that_are_no_numbers_give_no_text_and_end_at_once(made, beams):
    translator = Translator(made.folder("mbart50"))
    with torch.no_grad():
        translator.model.get_decoder().layers[0].fc1.weight[0, 0] = torch.nan
    steps = []
    translator.model.get_decoder().register_forward_hook(lambda *_: steps.append(1))
    assert outputs(translator, beams=beams, batch_size=8) == [Output("", 2, "nan")] * 8
    assert len(steps) == 2  # the first writes the forced token, whatever the logits


def test_progress_and_what_it_raises(made):
    translator, seen = made.translator("marian"), []
    outputs(translator, on_batch=lambda done, total: seen.append((done, total)), batch_size=3)
    assert seen == [(3, 8), (6, 8), (8, 8)]
    own = translator.model.generation_config
    with pytest.raises(ZeroDivisionError):
        outputs(translator, on_batch=lambda done, total: 1 / 0)
    assert translator.model.generation_config is own and not translator.model.training
    assert outputs(translator, []) == []
