"""How each kind of model is told its languages, against the library's own tokenizer and model."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
import transformers

from junkdna.errors import UserError
from junkdna.models import languages, translator_files
from junkdna.models.language_names import LANGUAGES, base, english, spellings
from junkdna.models.translator import Translator


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.Made(tmp_path_factory.mktemp("tiny"))


LIBRARY = {
    "mbart": ("en_XX", "de_DE", ""),
    "mbart50": ("en_XX", "de_DE", ""),
    "m2m100": ("en", "de", ""),
    "nllb": ("eng_Latn", "deu_Latn", ""),
    "marian": (None, None, ""),
    "marian-many": (None, None, ">>deu<< "),
    "t5": (None, None, "translate English to German: "),
    "mt5": (None, None, "translate English to German: "),
    "umt5": (None, None, "translate English to German: "),
    "madlad": (None, None, "<2de> "),
}
"""kind -> how its users tell the library: src_lang, tgt_lang, and what they write in front of the source."""


def test_every_kind_has_a_tiny_model_and_a_row_in_this_table():
    assert len(LIBRARY) == 10 and LIBRARY.keys() == tiny.KINDS.keys()
    assert {kind.name for kind in languages.KINDS} == LIBRARY.keys() - {"mt5", "umt5"}


@pytest.mark.parametrize("kind", LIBRARY)
def test_tokens_are_those_of_the_library(kind, made):
    check_against_library(kind, made.folder(kind), made.translator(kind))


def test_marian_with_a_vocabulary_for_each_side(made):
    apart = {"tokenizer": {"apart": True}}
    check_against_library("marian", made.folder("marian", **apart), made.translator("marian", **apart))


def check_against_library(kind, folder, translator):
    """Inputs, labels, decoder inputs and the loss itself, for texts of several lengths."""
    source_language, target_language, prefix = LIBRARY[kind]
    sources, targets = tiny.parallel("en-de", 3, seed=5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if source_language:
        tokenizer.src_lang, tokenizer.tgt_lang = source_language, target_language
    told = translator.direction("en", "de")
    for source, target in zip(sources, targets):
        theirs = tokenizer(prefix + source, text_target=target)
        inputs = told.inputs(translator.encode([source])[0])
        labels = told.labels(translator.encode([target], target=True)[0])
        assert inputs == theirs["input_ids"] and labels == theirs["labels"]
        assert tokenizer.unk_token_id not in (*told.before, *told.behind, *told.labels_before, *told.labels_behind)
        seen, loss = what_the_decoder_reads(translator.model, inputs, labels)
        assert [told.start, *labels[:-1]] == seen
        ours = translator.model(
            input_ids=torch.tensor([inputs]), decoder_input_ids=torch.tensor([[told.start, *labels[:-1]]])
        ).logits
        assert torch.nn.functional.cross_entropy(ours[0], torch.tensor(labels)) == loss
        assert translator.decode(labels) == target


def what_the_decoder_reads(model, inputs, labels):
    """The decoder's inputs that the library makes of labels alone, and its loss."""
    seen = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda module, args, given: seen.append(given["input_ids"][0].tolist()), with_kwargs=True
    )
    loss = model.eval()(input_ids=torch.tensor([inputs]), labels=torch.tensor([labels])).loss
    hook.remove()
    return seen[0], loss


@pytest.mark.parametrize("kind", [kind for kind in LIBRARY if kind != "marian"])
def test_the_way_back_is_another_direction(kind, made):
    there = made.translator(kind).direction("en", "de")
    back = made.translator(kind).direction("de", "en", trained=True)
    assert (there.name, back.name) == ("en-de", "de-en")
    assert (there.source_code, there.target_code) != (back.source_code, back.target_code)
    assert (there.before, there.behind, there.start, there.forced) != (
        back.before,
        back.behind,
        back.start,
        back.forced,
    )


SPELLINGS = {
    "mbart": {"de": "de_DE", "deu": "de_DE", "de_DE": "de_DE", "ao": "ao_AO", "ao_AO": "ao_AO", "gu": "gu_IN"},
    "mbart50": {"my": "my_MM", "mya": "my_MM", "pt": "pt_XX"},
    "m2m100": {"de": "__de__", "guj": "__gu__", "__de__": "__de__", "ast": "__ast__"},
    "nllb": {"de": "deu_Latn", "deu_Latn": "deu_Latn", "ar": "arb_Arab", "et": "est_Latn", "fa": "pes_Arab"},
    "marian-many": {"de": ">>deu<<", "gu": ">>guj<<", ">>deu<<": ">>deu<<"},
    "madlad": {"de": "<2de>", "deu": "<2de>", "gu": "<2gu>"},
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_the_users_word_becomes_the_models_code(kind, made):
    translator = made.translator(kind)
    for word, code in SPELLINGS[kind].items():
        told = translator.direction("en", word)
        assert told.target_code == code and told.target == word
        assert translator.codes[code] in (told.start, told.forced, *told.before)
    assert "de_DE" in SPELLINGS["mbart"].values()


UNKNOWN = {
    "not in the vocabulary": ("mbart50", "ao", "does not know 'ao'; nearest of its 52: "),
    "of another model": ("nllb", "de_DE", r"does not know 'de_DE'; nearest of its 202: deu_Latn"),
    "in the wrong case": ("mbart", "de_de", r"does not know 'de_de'; nearest of its 26: de_DE"),
    "in capitals": ("m2m100", "DE", r"does not know 'DE'; nearest of its 100: de, "),
    "two scripts": ("nllb", "zh", "'zh' may be zho_Hans or zho_Hant; give one of them"),
    "no target of that model": ("marian-many", "my", "nearest of its 3: "),
    "a word, not a code": ("mbart", "</s>", "does not know"),
    "no English name": ("t5", "ao", "by their English names, and 'ao' has none"),
    "its own language": ("mbart", "eng", "'en' and 'eng' are the same language"),
    "another way round": ("marian", "gu", "translates en to de only"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_language_that_the_model_does_not_know_is_refused(case, made):
    kind, word, said = UNKNOWN[case]
    for trained in (False, True):
        with pytest.raises(UserError, match=f"^pair en-{word}: .*{said}"):
            made.translator(kind).direction("en", word, trained)


def test_a_source_that_the_model_does_not_know_is_refused_too(made):
    for kind in ("mbart", "mbart50", "m2m100", "nllb"):
        with pytest.raises(UserError, match="pair xx-de: the model does not know 'xx'"):
            made.translator(kind).direction("xx", "de")
    with pytest.raises(UserError, match="translates en to mul only"):
        made.translator("marian-many").direction("gu", "de")
    assert made.translator("marian-many").direction("gu", "de", trained=True).before  # to be learnt


def test_codes_beyond_the_models_embedding_do_not_count(made):
    """M2M100's tokenizer numbers its codes by itself, whatever the model has rows for."""
    translator = made.translator("m2m100")
    kind = next(kind for kind in languages.KINDS if kind.name == "m2m100")
    few = translator.codes["__de__"]
    assert "__de__" not in languages.codes_of(kind, translator.tokenizer, few)
    config = transformers.M2M100Config(vocab_size=few)
    with pytest.raises(UserError, match="does not know 'de'"):
        languages.direction(kind, translator.tokenizer, config, "ar", "de")


def test_t5_is_held_to_the_pairs_that_it_lists_unless_it_is_trained_on_another(made):
    tasks = {
        "summarization": {"prefix": "summarize: "},
        "translation_en_to_de": {"prefix": "translate English to German: "},
        "translation_en_to_fr": {"prefix": "translate English to French: "},
    }
    translator = made.translator("t5", task_specific_params=tasks)
    assert translator.direction("en", "de").words.startswith(
        "reads 'translate English to German: ' text </s>; from <pad>"
    )
    with pytest.raises(UserError, match="pair de-en: the model was trained on en-de, en-fr alone; fine-tune it"):
        translator.direction("de", "en")
    assert translator.direction("de", "en", trained=True).source_code == "German"
    assert made.translator("t5").direction("en", "gu").target_code == "Gujarati"  # lists nothing


@pytest.mark.parametrize("kind", [kind for kind in LIBRARY if kind != "mbart"])
def test_a_start_that_the_configuration_does_not_name_is_the_kinds_own_and_never_bos(kind, made):
    translator = made.translator(kind)
    config = SimpleNamespace(vocab_size=translator.config.vocab_size, decoder_start_token_id=None)
    told = languages.direction(translator._kind, translator.tokenizer, config, "en", "de")
    assert told == translator.direction("en", "de")
    for wrong in (-1, config.vocab_size, True, [2]):
        config.decoder_start_token_id = wrong
        with pytest.raises(UserError, match=r"config\.json says decoder_start_token_id"):
            languages.direction(translator._kind, translator.tokenizer, config, "en", "de")


def test_mbart_starts_at_the_target_whatever_the_configuration_says(made):
    told = Translator(made.folder("mbart", decoder_start_token_id=0)).direction("en", "de")
    assert (
        told.start == told.labels_behind[-1]
        and told.words == "reads text </s> en_XX; from de_DE writes text </s> de_DE"
    )


def test_marian_that_does_not_say_its_target_is_refused(made):
    translator = made.translator("marian")
    translator.tokenizer.target_lang = None
    try:
        with pytest.raises(UserError, match=r"tokenizer_config\.json names no target_lang"):
            translator.direction("en", "de")
    finally:
        translator.tokenizer.target_lang = "de"


@pytest.mark.parametrize("kind", LIBRARY)
def test_files_show_what_the_loaded_model_knows(kind, made):
    translator, folder = made.translator(kind), made.folder(kind)
    config = json.loads((Path(folder) / "config.json").read_text())
    shown = translator_files.known(folder, config)
    if kind == "m2m100":  # its codes are in no file: the tokenizer's class lists them
        assert shown is None
    else:
        assert shown == languages.known_of(translator._kind, translator.tokenizer, translator.config)


FROM_FILES = {
    "not what Marian was made for": ("marian", ("en", "gu"), "pair en-gu: the model translates en to de only"),
    "the way back": ("marian", ("de", "en"), "pair de-en: the model translates en to de only"),
    "no code for the target": ("marian-many", ("en", "my"), "pair en-my: the model does not know 'my'"),
    "no English name": ("t5", ("en", "ao"), "pair en-ao: the model is told languages by their English names"),
    "no code of MADLAD's": ("madlad", ("en", "my"), "pair en-my: the model does not know 'my'"),
}


@pytest.mark.parametrize("case", FROM_FILES)
def test_files_refuse_a_direction_before_the_model_is_loaded(case, made):
    kind, way, said = FROM_FILES[case]
    folder = Path(made.folder(kind))
    known = translator_files.known(str(folder), json.loads((folder / "config.json").read_text()))
    languages.check_ways(known, [("en", "de")], trained=False)
    with pytest.raises(UserError, match=f"^{said}"):
        languages.check_ways(known, [way], trained=False)


def test_files_hold_t5_to_the_pairs_that_it_lists(made):
    listed = {"task_specific_params": {"translation_en_to_de": {"prefix": "translate English to German: "}}}
    known = translator_files.known(made.folder("t5"), {"model_type": "t5", "vocab_size": 200} | listed)
    languages.check_ways(known, [("en", "de")], trained=False)
    languages.check_ways(known, [("en", "de"), ("de", "en")], trained=True)
    with pytest.raises(UserError, match="pair de-en: the model was trained on en-de alone; fine-tune it"):
        languages.check_ways(known, [("en", "de"), ("de", "en")], trained=False)


def test_the_table_of_languages():
    assert len(LANGUAGES) == 136
    codes = [code for codes, _ in LANGUAGES.values() for code in codes]
    assert len(codes) == len(set(codes)) and all(name[0].isupper() for _, name in LANGUAGES.values())
    assert [base(word) for word in ("de", "deu", "de_DE", "deu_Latn", "mya_Mymr", "my_MM", "ao_AO", "ao")] == [
        *["de"] * 4,
        "my",
        "my",
        "ao",
        "ao",
    ]  # fmt: skip
    assert english("my_MM") == "Burmese" and english("nb") == "Norwegian Bokmål" and english("ao") is None
    assert spellings("zho") == ("zh", "zho", "cmn") and spellings("ao") == ("ao",)
