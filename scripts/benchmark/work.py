"""The work that all contenders do: a model's folder, a task's texts, and the flags that say what to do with them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from benchmark import ROOT
from junkdna.families.encoder.examples import TaskData
from junkdna.families.glue import files, reading

DEMO = ROOT / "GLUE_tasks" / "demo"
DEMO_TASKS = ("easy", "hard")
LEARNING_RATE = 2e-5
SHOWN_TO_TOKENIZER = 100_000
"""Texts of which a tokenizer is made, at most."""

SIZES = {
    "tiny": (2, 64, 4, 256, 4_096),
    "minilm": (6, 384, 12, 1_536, 30_522),
    "roberta-base": (12, 768, 12, 3_072, 50_265),
    "roberta-large": (24, 1_024, 16, 4_096, 50_265),
}
"""Models of random weights: layers, width, heads, inner width, vocabulary. All are RoBERTa."""


@dataclass(frozen=True)
class Work:
    """One task with one model. ``flags`` are those of the project's command; the reference reads the same."""

    name: str
    model: Path
    source: tuple[str, ...]
    batch_size: int
    sparsity: Decimal
    seed: int
    epochs: int
    metrics: tuple[str, ...]
    limits: tuple[str, ...] = ()
    """Further flags, that take a part of the data only."""

    def flags(self, output_dir: Path, *more: str) -> list[str]:
        return [
            *("--model_name_or_path", str(self.model), *self.source, "--max_length", "128"),
            *("--noembed", "--freeze_weights", "--sparsity", str(self.sparsity), "--seed", str(self.seed)),
            *("--per_device_train_batch_size", str(self.batch_size), "--num_train_epochs", str(self.epochs)),
            *(
                "--learning_rate",
                str(LEARNING_RATE),
                "--weight_decay",
                "0",
                "--output_dir",
                str(output_dir),
                *self.limits,
                *more,
            ),
        ]


def source(task: str, glue_dir: str | None) -> tuple[str, ...]:
    """The flags that name a task's data: a GLUE task in a folder, or one of the demo's."""
    if glue_dir:
        return ("--task_name", task, "--glue_dir", glue_dir)
    files = (str(DEMO / task / f"{split}.csv") for split in ("train", "validation"))
    return tuple(word for pair in zip(("--train_file", "--validation_file"), files) for word in pair)


def read(task: str, glue_dir: str | None) -> TaskData:
    """Read a task's texts; raises UserError."""
    if glue_dir:
        return reading.read_glue_dir(glue_dir, task)
    return files.read_files(*source(task, None)[1::2])


def prepare(work: Work, model: str, task: TaskData, texts: list[str] | None) -> None:
    """Write the model's folder, head and tokenizer included, so that all contenders start from the same bits.

    ``model`` is a folder or one of SIZES. A model of random weights gets the demo's tokenizer, or one that is made of
    ``texts``: its token counts are near those of RoBERTa's own, which needs a download.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    labels = {"num_labels": task.num_labels, "problem_type": "single_label_classification"}
    if task.label_names:
        labels["id2label"] = dict(enumerate(task.label_names))
        labels["label2id"] = {label: i for i, label in enumerate(task.label_names)}
    else:
        labels["problem_type"] = "regression"
    torch.manual_seed(0)
    if model in SIZES:
        made = transformers.RobertaForSequenceClassification(_config(SIZES[model], labels))
        tokenizer = _tokenizer(texts, SIZES[model][-1])
    else:
        made = transformers.AutoModelForSequenceClassification.from_pretrained(
            model, trust_remote_code=False, **labels, ignore_mismatched_sizes=True, dtype=torch.float32
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    made.save_pretrained(work.model)
    tokenizer.save_pretrained(work.model)


def _config(size: tuple[int, ...], labels: dict):
    from transformers import RobertaConfig

    layers, width, heads, inner, vocabulary = size
    return RobertaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=inner,
        vocab_size=vocabulary,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        **labels,
    )


def _tokenizer(texts: list[str] | None, vocabulary: int):
    """The demo's tokenizer; of texts, a byte-level BPE as RoBERTa's, learnt from them."""
    import tokenizers
    import transformers

    if texts is None:
        return transformers.AutoTokenizer.from_pretrained(DEMO / "model", trust_remote_code=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = tokenizers.ByteLevelBPETokenizer(add_prefix_space=False)
    shown = texts[:: 1 + len(texts) // SHOWN_TO_TOKENIZER]
    bpe.train_from_iterator(shown, vocab_size=vocabulary, min_frequency=2, special_tokens=special, show_progress=False)
    bpe._tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        **dict(zip(names, special)),
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=512,
    )
