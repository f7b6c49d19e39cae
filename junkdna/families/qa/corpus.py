"""Plain text: samples to calibrate with, and the perplexity of a model on it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.errors import Fault, UserError
from junkdna.families import textfiles
from junkdna.models import hub

if TYPE_CHECKING:
    import torch

HUB = {
    "c4": ("allenai/c4", {"calibration": "en/c4-train.00000-of-01024.json.gz"}),
    "wikitext2": (
        "Salesforce/wikitext",
        {"calibration": "wikitext-2-raw-v1/train-*", "perplexity": "wikitext-2-raw-v1/test-*"},
    ),
}
"""Texts on the Hub: where they are, and the files for each use."""

JSON_LINES = (".json", ".jsonl")
"""How the names of files of json lines end."""

SEARCHED = 50_000
"""Documents that are looked at for long ones."""

STREAM = 1 << 24
"""Characters of short documents that are joined at most."""

BLOCK = 1 << 26
"""Bytes of json lines that are read at once; no line may be longer."""

TOGETHER = 64
"""Documents that are tokenised at once."""

POSITIONS = 256
"""Positions whose logits are made fp32 at once."""


@dataclass(frozen=True)
class Corpus:
    """A text in parts, ``between`` which stands what makes it whole. ``sha256`` is that of the whole, ``use`` what it
    is for (the setting that names it), ``source`` where it is from.
    """

    name: str
    documents: Sequence[str]
    between: str
    sha256: str
    source: str
    use: str = "calibration"

    @property
    def text(self) -> str:
        """The whole."""
        return self.between.join(self.documents)

    def wrong(self, reason: str) -> UserError:
        return UserError(Fault(self.use, self.name, reason))


def read_text(name: str, use: str = "calibration") -> Corpus:
    """Read a file, ``c4`` or ``wikitext2``, for "calibration" or "perplexity"; raises UserError.

    For calibration each line of a file is a document, for perplexity it is one text, as it stands. Of json lines, also
    gzipped, such as a file of C4, the column ``text`` is read: a document a row. The rows of
    WikiText-2 (training rows for calibration, test rows for perplexity) are joined by two newlines, as published.
    """
    if name in HUB and not Path(name).is_file():
        return _from_hub(name, use)
    try:
        text = textfiles.read(name)
    except (OSError, ValueError) as error:
        known = "" if Path(name).exists() else f"; give a file, or one of {', '.join(HUB)}"
        reason = f"cannot be read: {textfiles.reason_of(error)}{known}"
        raise UserError(Fault(use, name, reason)) from None
    digest = hashlib.sha256(text.encode()).hexdigest()
    if name.lower().removesuffix(".gz").endswith(JSON_LINES):
        documents = _texts(text, name, use)
    else:
        documents = (text,) if use == "perplexity" else tuple(line for line in _lines(text) if line.strip())
    if not any(map(str.strip, documents)):
        raise UserError(Fault(use, name, "has no text"))
    return Corpus(name, documents, "\n", digest, name, use)


def _texts(lines: str, name: str, use: str) -> tuple[str, ...]:
    """The column ``text`` of json lines, rows with an empty one left out."""
    try:
        found = [(line, row.get("text")) for line, row in textfiles.json_rows(lines)]
    except ValueError as error:
        raise UserError(Fault(use, name, str(error))) from None
    for line, text in found:
        if not isinstance(text, str):
            raise UserError(Fault(use, name, f"line {line} has in 'text' {textfiles.kind_of(text)}, not a text"))
        try:
            textfiles.check_whole(text, "text")
        except ValueError as error:
            raise UserError(Fault(use, name, f"line {line} {error}")) from None
    return tuple(text for _, text in found if text.strip())


def _lines(text: str) -> Iterator[str]:
    return (line.removesuffix("\r") for line in text.split("\n"))


def _from_hub(name: str, use: str) -> Corpus:
    repository, files = HUB[name]
    if use not in files:
        raise UserError(Fault(use, name, f"is for {', '.join(files)}; give a file, or wikitext2"))
    try:
        paths, commit = hub.fetch_files(repository, files[use])
    except UserError as error:
        raise UserError(Fault(use, name, f"{error.faults[0].reason}; give a file")) from None
    digest, documents, between = hashlib.sha256(), _Column(paths), "\n\n"
    for number, text in enumerate(documents):
        digest.update((between * bool(number) + text).encode())
    return Corpus(name, documents, between, digest.hexdigest(), f"{repository} at {commit}, {files[use]}", use)


class _Column(Sequence):
    """The column ``text`` of parquet files, or of gzipped json lines, kept outside of Python: C4's is large."""

    def __init__(self, paths: list[Path]):
        import pyarrow

        self._texts = pyarrow.chunked_array([part for path in paths for part in _read_column(path).chunks], "string")

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, number: int) -> str:
        return self._texts[number].as_py()

    def __iter__(self) -> Iterator[str]:
        return (text.as_py() for text in self._texts)


def _read_column(path: Path):
    """Return a file's column ``text`` as pyarrow has it."""
    import pyarrow
    from pyarrow import json, parquet

    if path.suffix == ".parquet":
        return parquet.read_table(path, columns=["text"])["text"].cast("string")
    only = json.ParseOptions(
        explicit_schema=pyarrow.schema([("text", pyarrow.string())]), unexpected_field_behavior="ignore"
    )
    return json.read_json(path, json.ReadOptions(block_size=BLOCK), only)["text"]


# --- calibration -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """``ids`` is int64 (samples, tokens). ``taken`` is "documents" (a window of as many long documents) or "stream"
    (windows of all documents joined, which may overlap); ``available`` counts the tokens of what they were taken from.
    """

    ids: torch.Tensor
    taken: str
    available: int

    @property
    def sha256(self) -> str:
        """SHA-256 of the token ids."""
        return hash_of(self.ids)


def hash_of(ids: torch.Tensor) -> str:
    """SHA-256 of token ids."""
    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()


def samples(tokenizer, corpus: Corpus, nsamples: int, seqlen: int, seed: int) -> Samples:
    """Return ``nsamples`` windows of ``seqlen`` tokens, drawn with a seed.

    Documents are taken in an order drawn with the seed; each that has more than ``seqlen`` tokens gives one window, at
    a random place. If there are fewer of those than samples, all documents are joined by newlines into one stream, and
    windows are drawn from it. Raises UserError for a text with fewer tokens than one sample.
    """
    import torch

    chance = random.Random(seed)
    rows = _of_documents(tokenizer, corpus.documents, nsamples, seqlen, chance)
    if rows is not None:
        windows, available = rows
        return Samples(torch.tensor(windows), "documents", available)
    stream = _tokens(tokenizer, [_joined(corpus.documents)])[0]
    if len(stream) < seqlen:
        reason = f"has {len(stream):,} tokens, and one sample has {seqlen:,}; give a longer text or a lower --seqlen"
        raise corpus.wrong(reason)
    chance = random.Random(seed)
    starts = [chance.randrange(len(stream) - seqlen + 1) for _ in range(nsamples)]
    return Samples(torch.tensor([stream[at : at + seqlen] for at in starts]), "stream", len(stream))


def _of_documents(
    tokenizer, documents: Sequence[str], nsamples: int, seqlen: int, chance: random.Random
) -> tuple[list[list[int]], int] | None:
    """Return windows of as many long documents and the documents' tokens; None if there are too few of them."""
    order = list(range(len(documents)))
    chance.shuffle(order)
    windows, available = [], 0
    for start in range(0, min(len(order), SEARCHED), TOGETHER):
        for ids in _tokens(tokenizer, [documents[number] for number in order[start : start + TOGETHER]]):
            if len(ids) <= seqlen:
                continue
            at = chance.randrange(len(ids) - seqlen + 1)
            windows.append(ids[at : at + seqlen])
            available += len(ids)
            if len(windows) == nsamples:
                return windows, available
    return None


def _joined(documents: Sequence[str]) -> str:
    """The documents in their order, from the first on, one a line."""
    parts, size = [], 0
    for document in documents:
        parts.append(document)
        size += len(document) + 1
        if size > STREAM:
            break
    return "\n".join(parts)


def _tokens(tokenizer, texts: list[str]) -> list[list[int]]:
    """The token ids of texts, with the marks that the tokenizer puts around them."""
    return tokenizer(texts, verbose=False)["input_ids"]


# --- perplexity ------------------------------------------------------------------------------------------------------


def windows(tokenizer, corpus: Corpus, size: int, most: int | None = None) -> torch.Tensor:
    """Return a text as windows of ``size`` tokens (2 or more), int64 (windows, tokens), as published.

    The text is tokenised as a whole and cut into windows that do not overlap, of which the first ``most`` count (None:
    all); what is left at the end does not. Raises UserError for a text shorter than a window.
    """
    import torch

    ids = _tokens(tokenizer, [corpus.text])[0]
    count = min(len(ids) // size, most or len(ids))
    if not count:
        raise corpus.wrong(f"has {len(ids):,} tokens, and a window has {size:,}; give a longer text")
    return torch.tensor(ids[: count * size]).view(count, size)


def perplexity(model, rows: torch.Tensor, device="cpu") -> dict[str, float | int]:
    """Return {"perplexity", "tokens", "windows", "window"} of a causal language model, as published.

    ``rows`` are a text's ``windows``. In each of them every token but the first is predicted; ``tokens`` counts those.
    Logits are made fp32. A model whose logits are not numbers has the perplexity nan.
    """
    import torch

    count, window = rows.shape
    model.eval()
    losses = []
    with torch.inference_mode():
        for row in rows.to(device):
            logits = model(input_ids=row[None], use_cache=False).logits[0]
            losses.append(_loss(logits[:-1], row[1:]))
    mean = torch.stack(losses).mean()
    return {"perplexity": float(mean.exp()), "tokens": count * (window - 1), "windows": count, "window": window}


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean negative log-likelihood in nats: float64, on the CPU."""
    from torch.nn.functional import cross_entropy

    parts = zip(logits.split(POSITIONS), targets.split(POSITIONS))
    total = sum(cross_entropy(scores.float(), wanted, reduction="sum").double().cpu() for scores, wanted in parts)
    return total / len(targets)
