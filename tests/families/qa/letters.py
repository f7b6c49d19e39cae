"""Tiny causal language models over single characters, in which lines end often, as the tests of answers want them."""

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

LETTERS = [*"abcdefghijk QA:", "\n", ".\n", "\n\n"]
END, START = "</s>", "<s>"
WIDTH, HEADS, POSITIONS = 32, 4, 64

LLAMA_LIKE = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
}
SHAPES = {
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE | {"sliding_window": 8},
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE | {"head_dim": 8},
    "gpt_neox": {key: LLAMA_LIKE[key] for key in list(LLAMA_LIKE)[:4]},
    "opt": {
        "hidden_size": WIDTH,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "word_embed_proj_dim": WIDTH,
    },
    "gpt2": {"n_embd": WIDTH, "n_layer": 2, "n_head": HEADS},
}


def make_tokenizer(**settings):
    """A tokenizer of one token a character, but for two line ends; it has no token to pad with."""
    vocabulary = {token: number for number, token in enumerate([START, END, *LETTERS, "<unk>"])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\.\n|\n\n|."), "isolated")
    raw.decoder = decoders.Fuse()
    settings = {"bos_token": START, "eos_token": END, "unk_token": "<unk>"} | settings
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **settings)


def make_model(kind: str, seed: int = 0):
    """A model in fp32 whose weights are drawn wide, so that what it writes varies."""
    torch.manual_seed(seed)
    size = len(LETTERS) + 3
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=size,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
        initializer_range=0.4,
        **SHAPES[kind],
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()
