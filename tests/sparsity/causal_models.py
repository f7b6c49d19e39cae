"""Tiny causal language models with random weights, one of each type that is known to fit."""

import torch
import transformers

VOCABULARY, TOKENS, BLOCKS = 97, 24, 2

_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_ENDS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**_ENDS, **_LLAMA),
    "mistral": lambda: transformers.MistralConfig(**_ENDS, **_LLAMA, sliding_window=8),
    "qwen2": lambda: transformers.Qwen2Config(
        **_ENDS, **_LLAMA, use_sliding_window=True, sliding_window=8, max_window_layers=1
    ),
    "qwen3": lambda: transformers.Qwen3Config(**_ENDS, **_LLAMA, head_dim=8),
    "opt": lambda: transformers.OPTConfig(
        **_ENDS,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
    ),
    "gpt2": lambda: transformers.GPT2Config(**_ENDS, n_embd=32, n_inner=48, n_layer=BLOCKS, n_head=4, n_positions=64),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        **_ENDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        max_position_embeddings=64,
    ),
}


def causal(kind="llama", attention="sdpa", seed=0, **changes):
    """A model of that type in training mode, as ``from_config`` leaves it, so that its dropout is on."""
    config = CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for name, parameter in model.named_parameters():  # wide enough that attention is not uniform
        if parameter.dim() == 2:
            parameter.data = torch.randn(parameter.shape) * 0.2
        elif name.endswith("bias"):
            parameter.data = torch.randn(parameter.shape) * 0.1
    return model.train()


def samples(count=5, tokens=TOKENS, seed=1):
    """Calibration inputs: int64 (count, tokens)."""
    return torch.randint(3, VOCABULARY, (count, tokens), generator=torch.Generator().manual_seed(seed))
