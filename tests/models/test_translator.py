"""A translation model is loaded whole or refused in one line, keeps its ties, and has the scope of the paper."""

import json
import shutil

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

from conftest import save_tiny_model
from junkdna import Unstructured, choose_masks, find_scope, hold
from junkdna.errors import UserError
from junkdna.models import digests, translator_files
from junkdna.models.translator import Translator


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.Made(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own(made, tmp_path):
    """Copies a tiny model's folder, to be changed."""
    return lambda kind, **how: shutil.copytree(made.folder(kind, **how), tmp_path / kind)


def change_config(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mbart", "m2m100", "marian", "t5"])
def test_reset_gives_the_loaded_weights_and_their_ties_back(kind, made):
    translator = made.translator(kind)
    stored = load_file(f"{made.folder(kind)}/model.safetensors")
    assert translator.drawn == [] and len(translator.about()["ties"]) == 3
    with torch.no_grad():
        for parameter in translator.model.parameters():
            parameter.zero_()
    model = translator.reset(seed=1)
    state = model.state_dict()
    assert stored.keys() <= state.keys() and all(torch.equal(state[key], value) for key, value in stored.items())
    assert model.lm_head.weight is model.get_input_embeddings().weight
    translator.check_ties()
    assert len({value.data_ptr() for value in translator._pristine.values()}) == len({*map(id, model.parameters())}) + (
        sum(buffer.numel() > 0 for _, buffer in model.named_buffers() if _ in state)
    )  # one copy of what is tied


@pytest.mark.parametrize("kind", ["mbart", "mbart50", "nllb", "marian-many", "t5", "umt5"])
def test_ties_are_kept_through_pruning_saving_and_loading(kind, made, tmp_path):
    translator = made.translator(kind)
    model = translator.reset(seed=1)
    masks, _ = choose_masks(find_scope(model), Unstructured(0.5))
    hold(model, masks, "frozen")
    translator.save(tmp_path / "saved")
    again = Translator(str(tmp_path / "saved"))
    assert again.model.lm_head.weight is again.model.get_input_embeddings().weight
    assert again.about()["ties"] == translator.about()["ties"] and again.kind == translator.kind
    ours, theirs = model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert again.direction("en", "de") == translator.direction("en", "de")
    translator.reset(seed=1)


def test_a_tie_that_is_lost_is_not_saved(own, tmp_path):
    translator = Translator(str(own("mbart")))
    translator.model.lm_head.weight = torch.nn.Parameter(translator.model.lm_head.weight.detach().clone())
    with pytest.raises(RuntimeError, match=r"lm_head\.weight is no longer tied to model\.shared\.weight"):
        translator.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_the_output_layer_of_t5s_later_versions_is_not_tied_and_stays_so(own, tmp_path):
    """Their config.json says so, but the library writes the contrary when it saves one."""
    for kind in ("mt5", "t5"):
        folder = own(kind)
        change_config(folder, tie_word_embeddings=False)
        change_weights(folder, lambda w: w.update({"lm_head.weight": torch.randn(w["shared.weight"].shape)}))
        translator = Translator(str(folder))
        assert translator.notes == ["its output layer is not tied to its embedding"]
        assert "lm_head.weight" not in translator.about()["ties"]
        assert find_scope(translator.model).size > find_scope(translator.model, embeddings=False).size
        assert "lm_head.weight" in find_scope(translator.model, embeddings=False).matrices
        translator.save(tmp_path / f"{kind}-saved")
        again = Translator(str(tmp_path / f"{kind}-saved"))
        ids = {"input_ids": torch.tensor([[5, 6, 1]]), "decoder_input_ids": torch.tensor([[0, 5]])}
        assert torch.equal(again.model.eval()(**ids).logits, translator.model.eval()(**ids).logits)


WRONG = {
    "a tied copy differs": (
        lambda w: w.update({"lm_head.weight": w["model.shared.weight"] + 1}),
        r"lm_head\.weight and model\.shared\.weight are tied by config\.json, but differ in the weights",
    ),
    "a decoder's copy differs": (
        lambda w: w.update({"model.decoder.embed_tokens.weight": w["model.shared.weight"] * 2}),
        r"model\.decoder\.embed_tokens\.weight and .* differ in the weights",
    ),
    "no embedding": (lambda w: w.pop("model.shared.weight"), r"the weights lack 4 parameter\(s\)"),
    "a weight is missing": (
        lambda w: w.pop("model.decoder.layers.0.fc1.weight"),
        r"the weights lack 1 parameter\(s\), such as model\.decoder\.layers\.0\.fc1\.weight",
    ),
    "a weight is left over": (
        lambda w: w.update({"model.decoder.layers.1.fc1.bias": torch.zeros(32)}),
        r"the weights have 1 parameter\(s\) that config\.json has no place for",
    ),
    "a weight has another shape": (
        lambda w: w.update({"model.decoder.layers.0.fc1.bias": torch.zeros(31)}),
        r".*fc1\.bias is \(31,\) in the weights and \(32,\)",
    ),
    "a weight is NaN": (lambda w: w["model.decoder.layers.0.fc1.bias"].fill_(torch.nan), r".*fc1\.bias holds NaN"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_weights_are_refused(name, own):
    change, said = WRONG[name]
    folder = own("mbart")
    change_weights(folder, change)
    with pytest.raises(UserError, match=f"^model .*: {said}"):
        Translator(str(folder))


def test_marians_positions_are_computed_whatever_the_checkpoint_holds_and_never_change(own, tmp_path):
    """The library would train them as it does any other parameter, and leaves them out of what it saves."""
    folder = own("marian")
    places = [f"model.{half}.embed_positions.weight" for half in ("encoder", "decoder")]
    change_weights(folder, lambda w: w.update({place: torch.ones(tiny.POSITIONS, 16) for place in places}))
    model = Translator(str(folder)).model
    for place in places:
        weight = model.get_parameter(place)
        assert not weight.requires_grad and torch.equal(weight[0], torch.tensor([0.0] * 8 + [1.0] * 8))
        assert find_scope(model).left_out[place] == "not trained"


# --- models that do not translate ------------------------------------------------------------------------------------

OTHERS = {
    "an encoder": (
        {"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]},
        r"is not a translator \(RobertaForMaskedLM\)",
    ),
    "a decoder": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        r"is not a translator \(LlamaForCausalLM\)",
    ),
    "mBART's decoder": (
        {"model_type": "mbart", "architectures": ["MBartForCausalLM"], "is_encoder_decoder": False},
        r"is not a translator \(MBartForCausalLM\)",
    ),
    "mBART's classifier": (
        {"model_type": "mbart", "architectures": ["MBartForSequenceClassification"], "is_encoder_decoder": True},
        r"is not a translator \(MBartForSequenceClassification\)",
    ),
    "T5's encoder": (
        {"model_type": "t5", "architectures": ["T5EncoderModel"], "is_encoder_decoder": True},
        r"is not a translator \(T5EncoderModel\)",
    ),
    "speech": (
        {
            "model_type": "whisper",
            "architectures": ["WhisperForConditionalGeneration"],
            "is_encoder_decoder": True,
        },
        r"cannot be set for model type 'whisper' \(WhisperForConditionalGeneration\); known types",
    ),
    "one language": (
        {"model_type": "bart", "is_encoder_decoder": True},
        "languages cannot be set for model type 'bart'",
    ),
    "nothing": ({}, r"is not a translator \(type None\)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_refused_by_their_files_alone(name, tmp_path):
    config, said = OTHERS[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"^model .*{said}"):
        translator_files.check(str(tmp_path))


def test_what_is_a_translator_passes(made, tmp_path):
    assert [translator_files.check(made.folder(kind))["model_type"] for kind in ("nllb", "marian", "mt5")] == [
        "m2m_100",
        "marian",
        "mt5",
    ]
    assert translator_files.check("facebook/mbart-large-cc25") is None
    bare = {"model_type": "mbart", "architectures": ["MBartModel"], "is_encoder_decoder": True}
    translator_files.check_config(bare, "bare")
    translator_files.check_config({"model_type": "t5", "architectures": ["T5WithLMHeadModel"]}, "early")


def test_models_of_other_kinds_and_tokenizers_that_tell_nothing_are_refused(own, tmp_path):
    save_tiny_model(tmp_path / "encoder")
    with pytest.raises(UserError, match=r"is not a translator \(RobertaForMaskedLM\); give a sequence-to-sequence"):
        Translator(str(tmp_path / "encoder"))
    folder = own("mbart")
    for file in ("tokenizer_config.json", "sentencepiece.bpe.model"):
        (folder / file).unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"})
    )
    with pytest.raises(UserError, match="languages cannot be set for model type 'mbart' with a "):
        Translator(str(folder))


@pytest.mark.parametrize("kind", ["mbart", "mbart50", "t5"])
def test_a_folder_without_tokenizer_files_is_refused(kind, own):
    """The library makes one up that knows its special tokens and the space: every text would be <unk>."""
    folder = own(kind)
    for file in ("tokenizer.json", "tokenizer_config.json", "sentencepiece.bpe.model", "spiece.model"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(UserError, match="has no tokenizer files"):
        Translator(str(folder))


def test_mbart_with_too_few_rows_for_its_codes_is_refused(own):
    """The library appends the 25 codes to a vocabulary that lacks them."""
    folder = own("mbart")
    change_config(folder, vocab_size=120)
    change_weights(
        folder,
        lambda w: w.update(
            {k: v[..., :120] if "bias" in k else v[:120] for k, v in w.items() if "shared" in k or "final" in k}
        ),
    )
    with pytest.raises(UserError, match="its tokenizer has ids up to 133, its model's vocabulary is 120"):
        Translator(str(folder))


# --- settings and texts ----------------------------------------------------------------------------------------------


def test_dropouts_take_the_place_of_the_checkpoints(made):
    for kind in ("mbart", "m2m100", "marian"):
        translator = Translator(made.folder(kind), dropout=0.3, attention_dropout=0.2)
        layer = translator.model.get_encoder().layers[0]
        assert (layer.dropout, layer.self_attn.dropout) == (0.3, 0.2)
    t5 = Translator(made.folder("t5"), dropout=0.3).model
    rates = {module.p for module in t5.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.3}
    assert Translator(made.folder("mbart"), dropout=0.0).model.get_encoder().dropout == 0.0
    assert made.translator("mbart").model.get_encoder().dropout == 0.1
    with pytest.raises(UserError, match=r"^attention_dropout 0\.1: models of type t5 have no such dropout"):
        Translator(made.folder("t5"), attention_dropout=0.1)


def test_positions(made):
    assert {kind: made.translator(kind).positions for kind in ("mbart", "m2m100", "marian", "t5", "umt5")} == {
        "mbart": tiny.POSITIONS,
        "m2m100": tiny.POSITIONS,
        "marian": tiny.POSITIONS,
        "t5": None,
        "umt5": None,
    }
    assert made.translator("mbart").model.model.encoder.embed_positions.weight.shape[0] == tiny.POSITIONS + 2


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_texts_and_back(kind, made):
    """What a text holds of special tokens and codes neither ends it nor changes its language."""
    translator = made.translator(kind)
    assert translator.encode([]) == [] and translator.encode([""]) == [[]]
    text, special = "the old cat", {translator.end, translator.padding, *translator.codes.values()}
    code = next(iter(translator.codes), "<pad>")
    for side in (False, True):
        for spoilt in (f"{code} {text}", f"{text} </s>", f"{text} {code}", f"the <s> old <pad> cat{code}"):
            (row,) = translator.encode([spoilt], target=side)
            assert row and not special & {*row}
    (row,) = translator.encode([text])
    if kind != "marian":  # the words of each side are its own
        assert translator.decode([translator.end, *row, translator.padding, *translator.codes.values()]) == text
    beyond = translator.config.vocab_size + 5
    assert translator.decode([*row, beyond]) == translator.decode(row)


def test_words_of_one_side_may_have_the_number_of_the_other_sides_special_tokens(made):
    """Marian with two vocabularies: the source's <pad> has the number of one of the target's words."""
    translator = made.translator("marian", tokenizer={"apart": True})
    tokenizer = translator.tokenizer
    (word,) = [word for word, number in tokenizer.target_encoder.items() if number == tokenizer.pad_token_id]
    assert word not in tokenizer.all_special_tokens
    text = f"alte {word.strip('▁')} {word.strip('▁')}"
    (row,) = translator.encode([text], target=True)
    assert tokenizer.pad_token_id in row and translator.decode([*row, translator.end, translator.padding]) == text
    (spoilt,) = translator.encode([f"{text} <pad> </s>"], target=True)
    assert spoilt[: len(row)] == row and not {translator.end, translator.padding} & {*spoilt}


def test_legacy_layouts_of_nllb_are_left_out_and_this_is_said(made):
    translator = made.translator("nllb", tokenizer={"legacy_behaviour": True})
    assert "legacy_behaviour" in translator.notes[0]
    assert translator.direction("en", "de") == made.translator("nllb").direction("en", "de")


# --- scope -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_scope_without_embeddings_has_neither_the_tied_table_nor_positions(kind, made):
    model = made.translator(kind).model
    everything, layers = find_scope(model), find_scope(model, embeddings=False)
    tables = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    learned = {name for name, p in model.named_parameters() if name.removesuffix(".weight") in tables and p.dim() == 2}
    learned = {name for name in learned if model.get_parameter(name).requires_grad}
    assert any(name.endswith("shared.weight") for name in learned) and learned == everything.embeddings
    assert everything.matrices.keys() - layers.matrices.keys() == learned
    assert {layers.left_out[name] for name in learned} == {"embedding"}
    positions = {name for name in learned if "embed_positions" in name}
    assert len(positions) == (2 if kind.startswith("mbart") else 0)  # the others' are computed
    assert layers.matrices and all(".layer" in name or ".block." in name for name in layers.matrices)


def test_the_weights_of_mbart_large():
    config = transformers.MBartConfig(vocab_size=250027, max_position_embeddings=1024)
    with torch.device("meta"):
        model = transformers.MBartForConditionalGeneration(config)
    scope = find_scope(model)
    assert scope.size == 610_450_432
    assert scope.matrices["model.encoder.embed_positions.weight"].shape == (1026, 1024)
    assert find_scope(model, embeddings=False).size == 150_994_944 + 201_326_592 == 352_321_536
    assert sum(scope.matrices[name].numel() for name in scope.embeddings) == 256_027_648 + 2_101_248


def test_the_row_of_the_padding_is_zeros_and_counted_as_such(made):
    model = made.translator("mbart").reset(seed=0)
    assert not model.model.shared.weight[1].any()
    _, census = choose_masks(find_scope(model), Unstructured(0.3))
    counts = census.as_dict()
    assert counts["zeros_before"]["weights"] >= 16 and counts["zeros_before"]["removed"] >= 16
    assert counts["removed"] == census.asked
    assert 0 < counts["embeddings"]["removed"] < counts["embeddings"]["weights"] < counts["scope"]["weights"]


# --- what a run is compared by ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["m2m100", "marian", "mbart"])
def test_the_digest_of_a_tokenizer_depends_on_all_of_its_files(kind, own):
    """Two vocabularies may be numbered alike and cut texts in different ways."""
    folder = own(kind)
    first, again = (digests.of_tokenizer(Translator(str(folder)).tokenizer) for _ in range(2))
    assert first == again
    if kind == "mbart":
        return  # all of it is in tokenizer.json
    file = folder / ("target.spm" if kind == "marian" else "sentencepiece.bpe.model")
    file.write_bytes(tiny.sentencepiece_model(("gu",)))
    assert digests.of_tokenizer(Translator(str(folder)).tokenizer) != first
