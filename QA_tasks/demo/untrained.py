"""The demo's tokenizer, and its Llama before training."""

from __future__ import annotations

from random import Random

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world import World, article, read, remembered

SPECIAL = PAD, BOS, EOS = "<pad>", "<s>", "</s>"
TURNS = QUESTION, ANSWER = "\nQ:", "\nA:"  # tokens of their own: then a name and its answer stand two tokens apart
VOCABULARY = 2000  # at most; merging stops earlier, when every word is one token
MAX_TOKENS = 256
TOKENIZER_SEED, TOKENIZER_TEXTS = 7, 2000  # of each kind

# How ``prepare`` starts the attention.
EMBEDDING_STD, ATTENTION_STD = 0.1, 0.06
LOOK_BACK = (1, 2, 3, 5)  # tokens, by head of the first layer: a name and a question's relation stand there
SHARED, STRENGTH, ROTATIONS = 0.5, 1.0, 4  # how clearly they look there
MATCHED, MATCH = (1, 2), 1.6  # of these, by head of the second layer, what was seen is compared, and how strongly


def train_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as in Llama 3: every byte is in the vocabulary, so nothing is unknown; adds <s> in front."""
    rng = Random(TOKENIZER_SEED)
    text: list[str] = []
    for _ in range(TOKENIZER_TEXTS):
        text += article(world, 20, rng), remembered(world, rng), read(world, 6, rng)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=list(SPECIAL),
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    bpe.add_tokens([AddedToken(turn, normalized=False) for turn in TURNS])
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, SPECIAL.index(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def model_config(vocabulary: int) -> LlamaConfig:
    """Llama in small: 4 layers of width 128; widths are powers of two, so every usual N:M pattern fits."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=SPECIAL.index(BOS),
        eos_token_id=SPECIAL.index(EOS),
    )


@torch.no_grad()
def prepare(model: LlamaForCausalLM) -> None:
    """Start the attention where reading is near; training changes all of it as it likes.

    From random weights so small a model does not learn to read within a few million words. So every head starts out
    with queries like keys and an output that undoes its values: like attends to like, and what is attended to is
    copied. The heads of the first layer look a fixed number of tokens back instead, as LOOK_BACK says: one dimension
    of every embedding starts out alike, and from it they make a query and a key that agree best at their distance.
    Only the fastest rotations take part; the slow ones hardly tell neighbours apart. Two heads of the second layer
    compare what two of these have found, which are the two halves of a name.
    """
    config, size = model.config, model.config.head_dim
    for layer in model.model.layers:
        attention = layer.self_attn
        for weight in (attention.q_proj.weight, attention.v_proj.weight):
            torch.nn.init.normal_(weight, std=ATTENTION_STD)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        attention.o_proj.weight.copy_(0.5 * attention.v_proj.weight.T)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=EMBEDDING_STD)
    model.model.embed_tokens.weight[:, 0] = SHARED
    model.model.embed_tokens.weight[config.pad_token_id] = 0.0
    first = model.model.layers[0].self_attn
    speeds = config.rope_parameters["rope_theta"] ** (-2 * torch.arange(ROTATIONS) / size)
    for head, distance in enumerate(LOOK_BACK):
        start = head * size
        for weight in (first.q_proj.weight, first.k_proj.weight):
            torch.nn.init.normal_(weight[start : start + size], std=config.initializer_range)
        rows = torch.arange(start, start + ROTATIONS)
        first.k_proj.weight[rows, 0] = STRENGTH
        first.q_proj.weight[rows, 0] = STRENGTH * torch.cos(distance * speeds)
        first.q_proj.weight[rows + size // 2, 0] = -STRENGTH * torch.sin(distance * speeds)
    second = model.model.layers[1].self_attn
    for head, source in enumerate(MATCHED):
        seen = first.v_proj.weight[source * size : (source + 1) * size]
        for weight in (second.q_proj.weight, second.k_proj.weight):
            weight[head * size : (head + 1) * size] = MATCH * seen
