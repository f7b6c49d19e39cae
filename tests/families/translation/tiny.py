"""Tiny translation models of every kind, with random weights and real tokenizers that are trained here on a few words.

``save(kind, folder)`` writes one as ``from_pretrained`` reads it; ``parallel(pair, rows)`` gives texts that its words
can spell, in English, German, Gujarati and an invented language, ao.
"""

from __future__ import annotations

import functools
import io
import json
import random
import warnings
from contextlib import contextmanager
from pathlib import Path

WORDS = {
    "en": "the a cat dog bird child farmer saw found liked carried flower cake house song sees old bright .",
    "de": "die eine Katze Hündin Amsel Tochter Bäuerin sah fand mochte trug Blume Torte Hütte Oper sieht alte helle .",
    "gu": "તે એક બિલાડી કૂતરો પક્ષી બાળક ખેડૂત જોયું મળ્યું ગમ્યું લાવ્યું ફૂલ કેક ઘર ગીત જુએ જૂનું તેજ .",
    "ao": "ka u mirau wofo tiri lapa kuru soma fina lika tora bomi saki huto melo soe olu ble .",
}
"""The same words in every language, place by place."""

SUBJECTS, VERBS, OBJECTS, ADJECTIVES = slice(2, 7), slice(7, 11), slice(11, 15), slice(16, 18)

OWN_CODE = "ao_AO"
"""The code of the invented language in the models of kind mbart: one more special token behind the library's 25."""

POSITIONS = 64
"""Longest input of the models that have a longest input."""

MARIAN_CODES = (">>deu<<", ">>guj<<", ">>eng<<")
MADLAD_CODES = ("<2en>", "<2de>", "<2gu>")


def parallel(pair: str, rows: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Sentences of a pair such as "en-de" and their translations, word by word."""
    draw = random.Random(seed)
    source, target = ([], [])
    for _ in range(rows):
        picked = _sentence(draw)
        for side, language in zip((source, target), pair.split("-")):
            words = WORDS[language].split()
            side.append(" ".join(words[number] for number in picked))
    return source, target


def _sentence(draw: random.Random) -> list[int]:
    """The places of a sentence's words."""
    places = range(len(WORDS["en"].split()))
    subject, verb, thing, adjective = (draw.choice(places[kind]) for kind in (SUBJECTS, VERBS, OBJECTS, ADJECTIVES))
    more = [adjective] if draw.random() < 0.5 else []
    again = [0, draw.choice(places[OBJECTS])] if draw.random() < 0.3 else []
    return [draw.choice((0, 1)), *more, subject, verb, draw.choice((0, 1)), thing, *again, places[-1]]


def write_pair(folder: Path, pair: str, **splits: int) -> Path:
    """Write SPLIT.SRC-TGT.SRC and .TGT for every split with that number of rows, each with sentences of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, rows) in enumerate(splits.items()):
        for language, texts in zip(pair.split("-"), parallel(pair, rows, seed)):
            (folder / f"{split}.{pair}.{language}").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return folder


# --- tokenizers ------------------------------------------------------------------------------------------------------


@functools.cache
def sentencepiece_model(languages: tuple[str, ...] = tuple(WORDS), symbols: tuple[str, ...] = (), t5: bool = False):
    """A SentencePiece model, as bytes, that spells the words of those languages; ``t5`` numbers as T5's does."""
    import sentencepiece

    made = io.BytesIO()
    numbers = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1} if t5 else {}
    texts = [text for language in languages for text in parallel(f"{language}-en", 60)[0]]
    if t5:
        texts += ["translate English to German: Gujarati", "translate German to English: English"] * 8
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=made,
        vocab_size=160,
        hard_vocab_limit=False,
        model_type="unigram",
        character_coverage=1.0,
        user_defined_symbols=list(symbols),
        minloglevel=2,
        num_threads=1,
        **numbers,
    )
    return made.getvalue()


def pieces(model: bytes) -> list[str]:
    """What a SentencePiece model knows beside its own special tokens."""
    import sentencepiece

    read = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [read.id_to_piece(i) for i in range(read.get_piece_size()) if not (read.is_control(i) or read.is_unknown(i))]


def _mbart(folder: Path, **more):
    from transformers import MBartTokenizer

    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_model())
    return MBartTokenizer.from_pretrained(folder, additional_special_tokens=[OWN_CODE], **more)


def _mbart50(folder: Path, **more):
    from transformers import MBart50Tokenizer

    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_model())
    return MBart50Tokenizer.from_pretrained(folder, **more)


def _nllb(folder: Path, **more):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import NllbTokenizer

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    trained.train_from_iterator([text for name in WORDS for text in parallel(f"{name}-en", 60)[0]], trainer)
    found = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in found["merges"]]
    return NllbTokenizer(vocab=found["vocab"], merges=merges, **more)


def _m2m100(folder: Path, **more):
    from transformers import M2M100Tokenizer

    known = pieces(sentencepiece_model())
    return M2M100Tokenizer(
        vocab_file=_json(folder / "vocab.json", {word: i for i, word in enumerate([*SPECIAL, *known])}),
        spm_file=_bytes(folder / "sentencepiece.bpe.model", sentencepiece_model()),
        **more,
    )


def _marian(folder: Path, codes: tuple[str, ...] = (), languages: str = "en-de", apart: bool = False, **more):
    """One pair, or all of ``codes`` as targets; ``apart``: each side has a vocabulary of its own."""
    from transformers import MarianTokenizer

    source, target = languages.split("-") if not codes else ("en", "de")
    models = [sentencepiece_model((language,)) for language in ((source, target) if not codes else ())] or [
        sentencepiece_model()
    ] * 2
    known = [pieces(model) for model in models]
    shared = list(dict.fromkeys([*known[0], *known[1]]))
    sides = known if apart else [shared, shared]
    numbered = [
        {word: i for i, word in enumerate(["</s>", "<unk>", *codes, *side, "<pad>"])} for side in sides
    ]  # Marian's padding has the last number
    with _no_advice():
        return MarianTokenizer(
            source_spm=_bytes(folder / "source.spm", models[0]),
            target_spm=_bytes(folder / "target.spm", models[1]),
            vocab=_json(folder / "vocab.json", numbered[0]),
            target_vocab_file=_json(folder / "target_vocab.json", numbered[1]) if apart else None,
            source_lang=source,
            target_lang="mul" if codes else target,
            separate_vocabs=apart,
            **more,
        )


def _t5(folder: Path, symbols: tuple[str, ...] = (), **more):
    from transformers import T5Tokenizer

    (folder / "spiece.model").write_bytes(sentencepiece_model(symbols=symbols, t5=True))
    return T5Tokenizer.from_pretrained(folder, extra_ids=4, **more)


SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def _json(path: Path, content) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def _bytes(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


@contextmanager
def _no_advice():
    """Keep Marian's tokenizer from recommending a package that it does without."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        yield


# --- models ----------------------------------------------------------------------------------------------------------

_BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": POSITIONS,
    "scale_embedding": True,
    "dropout": 0.1,
    "init_std": 0.2,  # at this width the usual 0.02 has every model repeat one token
}
_T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
}
"""Model types of the table's kinds, with the settings that make them tiny."""

_ENDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}

KINDS = {
    "mbart": ("mbart", _mbart, _BART | _ENDS),
    "mbart50": ("mbart", _mbart50, _BART | _ENDS | {"decoder_start_token_id": 2}),
    "m2m100": ("m2m_100", _m2m100, _BART | _ENDS | {"decoder_start_token_id": 2}),
    "nllb": ("m2m_100", _nllb, _BART | _ENDS | {"decoder_start_token_id": 2}),
    "marian": ("marian", _marian, _BART),
    "marian-many": ("marian", functools.partial(_marian, codes=MARIAN_CODES), _BART),
    "t5": ("t5", _t5, _T5),
    "mt5": ("mt5", _t5, _T5 | {"feed_forward_proj": "gated-gelu"}),
    "umt5": ("umt5", _t5, _T5 | {"feed_forward_proj": "gated-gelu"}),
    "madlad": ("t5", functools.partial(_t5, symbols=MADLAD_CODES), _T5 | {"feed_forward_proj": "gated-gelu"}),
}
"""kind -> (type in config.json, maker of the tokenizer, settings of the model)."""


def save(kind: str, folder: Path | str, tokenizer: dict | None = None, seed: int = 0, **changes) -> str:
    """Write a tiny model of a kind with its tokenizer; return the folder.

    ``changes`` go into the configuration, ``tokenizer`` to the maker of the tokenizer.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model_type, make, settings = KINDS[kind]
    words = make(folder, **(tokenizer or {}))
    config = transformers.AutoConfig.for_model(model_type, **settings | _numbers(kind, words) | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        _widen(model, model_type, config.eos_token_id)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def _numbers(kind: str, words) -> dict:
    """The vocabulary's sizes and the special tokens' numbers, as far as they depend on the tokenizer."""
    if kind == "m2m100":  # its language codes lie behind what it counts, and 8 places are kept free behind them
        return {"vocab_size": words.encoder_size + len(words.lang_code_to_id) + words.num_madeup_words}
    if not kind.startswith("marian"):
        return {"vocab_size": len(words)}
    pad = words.pad_token_id
    numbers = {"vocab_size": len(words.encoder), "pad_token_id": pad, "decoder_start_token_id": pad}
    numbers |= {"eos_token_id": words.eos_token_id, "bos_token_id": None, "forced_eos_token_id": words.eos_token_id}
    if words.separate_vocabs:
        pad = words.target_encoder["<pad>"]
        numbers |= {"decoder_vocab_size": len(words.target_encoder), "decoder_start_token_id": pad}
        numbers |= {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}
    return numbers


def _widen(model, model_type: str, end: int) -> None:
    """Draw the matrices wide enough that what a model writes depends on what it reads, and comes to an end at times."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            table = any(part in name for part in ("shared", "lm_head", "embed"))
            if parameter.dim() == 2 and not table:
                parameter.normal_(0, 0.4 if "t5" in model_type else 0.8)
            elif parameter.dim() == 2 and "t5" in model_type:
                parameter.normal_(0, 1)
        model.get_output_embeddings().weight[end] *= 2


class Made:
    """Tiny models, each made and loaded when it is first asked for; for reading only."""

    def __init__(self, root: Path):
        self.root, self.folders, self.translators = root, {}, {}

    def folder(self, kind: str, **how) -> str:
        """The folder of a model of a kind; ``how`` as for ``save``."""
        key = f"{kind} {how}"
        if key not in self.folders:
            self.folders[key] = save(kind, self.root / str(len(self.folders)), **how)
        return self.folders[key]

    def translator(self, kind: str, **how):
        """The model itself, as ``Translator`` loads it."""
        from junkdna.models.translator import Translator

        folder = self.folder(kind, **how)
        if folder not in self.translators:
            self.translators[folder] = Translator(folder)
        return self.translators[folder]
