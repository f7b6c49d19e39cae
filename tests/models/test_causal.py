"""A causal language model is loaded, refused in one line, and given back in its pre-trained state."""

import json
import os
import shutil

import numpy as np
import pytest
import small_world
import torch
from safetensors.torch import load_file, save_file

from junkdna.errors import UserError
from junkdna.models import causal, causal_files, memory
from junkdna.models.causal import Causal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("causal") / "model"
    made.mkdir()
    small_world.save_model(made, vocab_size=272)  # reading a GGUF file adds special tokens to the 259 of the tokenizer
    return made


@pytest.fixture
def own(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def change_config(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("room", [1 << 40, 0], ids=["kept aside", "loaded again"])
def test_fresh_weights_are_the_pre_trained_ones_whatever_was_done_to_the_last(folder, monkeypatch, room):
    made = Causal(str(folder))
    monkeypatch.setattr(memory, "size_of_files", lambda *_: 0)
    monkeypatch.setattr(memory, "available", lambda: room)
    stored = load_file(folder / "model.safetensors")
    digest = None
    for _ in range(3):
        model = made.fresh()
        state = model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in stored.items()) and not model.training
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert digest in (None, made.weight_hash)
        digest = made.weight_hash
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    assert made.about()["parameters"] == sum(value.numel() for value in stored.values())


def test_the_dtype_is_the_checkpoint_s_own_but_for_fp16_on_a_cpu(own, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for kind, wanted, notes in (("bfloat16", torch.bfloat16, 0), ("float16", torch.float32, 1)):
        change_config(own, dtype=kind)
        made = Causal(str(own))
        assert made.dtype == wanted == made.fresh().dtype and len(made.notes) == notes
    assert Causal(str(own), dtype="bf16").fresh().dtype == torch.bfloat16
    with pytest.raises(UserError, match="dtype fp16: needs a GPU"):
        Causal(str(own), dtype="fp16")


def test_weights_that_changed_between_two_runs_of_a_grid_are_refused(own, monkeypatch):
    monkeypatch.setattr(memory, "size_of_files", lambda *_: 0)
    monkeypatch.setattr(memory, "available", lambda: 0)  # no room to keep them aside
    made = Causal(str(own))
    made.fresh()
    change_weights(own, lambda weights: weights["model.norm.weight"].mul_(2))
    with pytest.raises(UserError, match="its weights are not those that were loaded before"):
        made.fresh()


WRONG = {
    "a weight is missing": (lambda w: w.pop("model.layers.1.mlp.up_proj.weight"), "the weights lack 1 parameter"),
    "a weight is left over": (
        lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(48, 32)}),
        r"the weights have 1 parameter\(s\) that config.json has no place for",
    ),
    "a weight has another shape": (
        lambda w: w.update({"model.norm.weight": torch.zeros(31)}),
        r"model.norm.weight is \(31,\) in the weights and \(32,\)",
    ),
    "a weight is NaN": (lambda w: w["model.norm.weight"].fill_(torch.nan), "model.norm.weight holds NaN"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_weights_are_refused(name, own):
    change, said = WRONG[name]
    change_weights(own, change)
    with pytest.raises(UserError, match=said):
        Causal(str(own)).fresh()


@pytest.mark.parametrize("content", ['{"eos_token_id": [2, 8', "[]", "null"])
def test_settings_of_generation_that_cannot_be_read_are_refused(content, own):
    """The library would go on without them, and texts would end elsewhere."""
    assert causal_files.check(str(own), None)["model_type"] == "llama"
    (own / "generation_config.json").write_text(content)
    with pytest.raises(UserError, match=r"its generation_config\.json (cannot be read: |holds no object)"):
        causal_files.check(str(own), None)


def test_other_kinds_of_models_are_refused(own, tiny_model):
    with pytest.raises(UserError, match="is not a causal language model"):
        Causal(tiny_model)
    change_config(own, is_encoder_decoder=True)
    with pytest.raises(UserError, match="is an encoder-decoder model"):
        Causal(str(own))


def test_weights_for_which_there_is_no_room_are_refused_before_they_are_loaded(folder, monkeypatch):
    made = Causal(str(folder))
    monkeypatch.setattr(memory, "available", lambda: 1000)
    monkeypatch.setattr(causal.memory, "size_of_files", lambda *_: 13_500_000_000)
    with pytest.raises(UserError, match=r"its weights need 13.5 GB; 0.0 GB of memory is free"):
        made.fresh()


def test_weights_are_counted_in_the_dtype_in_which_they_are_used_and_once(own, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stored = load_file(own / "model.safetensors")
    count = sum(value.numel() for value in stored.values())
    save_file({name: value.half() for name, value in stored.items()}, own / "model.safetensors", {"format": "pt"})
    shutil.copy(own / "model.safetensors", own / "consolidated.safetensors")  # as Mistral's folders have it
    change_config(own, dtype="float16")
    assert memory.size_of_files(own, 2) == 2 * count
    monkeypatch.setattr(memory, "available", lambda: 3 * count)  # room for fp16, which becomes fp32 on a CPU
    with pytest.raises(UserError, match="its weights need"):
        Causal(str(own)).fresh()
    os.rename(own / "model.safetensors", own / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(stored, "model-00001-of-00001.safetensors")}
    (own / "model.safetensors.index.json").write_text(json.dumps(index))
    assert memory.size_of_files(own, 4) == 4 * count


def test_a_pad_token_of_minus_one_is_none(own):
    """As early checkpoints of Llama say it."""
    change_config(own, pad_token_id=-1)
    assert Causal(str(own)).fresh().config.pad_token_id == -1
    change_config(own, pad_token_id=-2)
    with pytest.raises(UserError, match=r"config\.json says pad_token_id -2"):
        Causal(str(own))


def test_memory_is_counted_once_per_storage():
    values = torch.zeros(100)
    assert memory.size_of([values, values[:10], values.view(10, 10)]) == 400
    assert 0 < memory.available() < 1 << 50


def write_gguf(folder, path, half_packed=False):
    """Write the small Llama as a GGUF file of fp32 values, with its byte-level tokenizer. ``half_packed``: the matrices
    of its MLPs are quantized.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text())
    weights = {name: value.numpy() for name, value in load_file(folder / "model.safetensors").items()}
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    made = gguf.GGUFWriter(path, "llama")
    made.add_context_length(config["max_position_embeddings"])
    made.add_embedding_length(config["hidden_size"])
    made.add_block_count(config["num_hidden_layers"])
    made.add_feed_forward_length(config["intermediate_size"])
    made.add_head_count(config["num_attention_heads"])
    made.add_head_count_kv(config["num_key_value_heads"])
    made.add_layer_norm_rms_eps(config["rms_norm_eps"])
    made.add_vocab_size(config["vocab_size"])
    made.add_tokenizer_model("gpt2")
    made.add_token_list(sorted(vocabulary, key=vocabulary.get))
    made.add_token_types([3] * 3 + [1] * (len(vocabulary) - 3))
    made.add_token_scores([0.0] * len(vocabulary))
    made.add_token_merges([])
    made.add_pad_token_id(0)
    made.add_bos_token_id(1)
    made.add_eos_token_id(2)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.layers.": "blk.",
    }
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, value in weights.items():
        for kind, count in heads.items():  # the format keeps the halves of a head's rotation side by side
            if kind in name:
                rows = value.reshape(count, 2, -1, value.shape[1]).swapaxes(1, 2)
                value = np.ascontiguousarray(rows.reshape(value.shape))
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        if half_packed and "ffn" in name and value.ndim == 2 and value.shape[1] % 32 == 0:
            packed = gguf.quants.quantize(value, gguf.GGMLQuantizationType.Q8_0)
            made.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            continue
        made.add_tensor(name, value)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


def test_the_weights_of_a_gguf_file_are_never_left_packed(folder, tmp_path, monkeypatch):
    """With the package kernels the libraries would compute with packed ones, by code from the Hub."""
    quantizer_gguf = pytest.importorskip("transformers.quantizers.quantizer_gguf")

    def fetch():
        raise AssertionError("asked for kernels")

    write_gguf(folder, tmp_path / "small.gguf", half_packed=True)
    monkeypatch.setattr(quantizer_gguf, "get_gguf_kernel", fetch)
    monkeypatch.setattr(memory, "available", lambda: 0)  # loaded again each time
    made = Causal(str(tmp_path), gguf_file="small.gguf")
    for _ in range(2):
        model = made.fresh()
        assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear and model.dtype == torch.float32
        assert not hasattr(model.config, "quantization_config") and not hasattr(made.config, "quantization_config")


def test_a_gguf_file_gives_the_model_that_was_written_into_it(folder, tmp_path, capfd):
    write_gguf(folder, tmp_path / "small.gguf")
    made = Causal(str(tmp_path), gguf_file="small.gguf")
    state, stored = made.fresh().state_dict(), load_file(folder / "model.safetensors")
    assert made.revision is None and all(torch.equal(state[name], value) for name, value in stored.items())
    whole = Causal(str(folder))
    assert made.tokenizer.decode(made.tokenizer("Q: which?\nA:")["input_ids"]).endswith("Q: which?\nA:")
    ids = torch.tensor([[5, 9, 40, 41]])
    assert torch.equal(made.fresh()(ids).logits, whole.fresh()(ids).logits)
    made.save(tmp_path / "saved")
    saved = Causal(str(tmp_path / "saved"))
    assert torch.equal(saved.fresh()(ids).logits, whole.fresh()(ids).logits)
    assert saved.tokenizer("Q: which?")["input_ids"] == made.tokenizer("Q: which?")["input_ids"]
    assert capfd.readouterr().err == ""
