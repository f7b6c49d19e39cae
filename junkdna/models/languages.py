"""How a translation model is told its two languages: one table, and what it makes of a pair such as "en-de".

Knows tokenizers and configurations by what they hold, and imports neither torch nor transformers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from junkdna.errors import Fault, UserError
from junkdna.models.language_names import base, english, spellings


@dataclass(frozen=True)
class Kind:
    """How one kind of model is told source and target language.

    ``types`` are its types in config.json, ``tokenizer`` the class of its tokenizer ("" for any), ``codes`` what a
    language code looks like in the vocabulary (its first group is the bare code; None: there are none). The layouts
    are made of TEXT, SRC, TGT (the languages' codes), PREFIX (words in front of the text), START (the configuration's
    ``decoder_start_token_id``), END and PAD (the special tokens). ``start`` is the decoder's first input, ``forced``
    the first token that generation is made to write ("" for none), ``usual_start`` stands for a START that the
    configuration does not name.
    """

    name: str
    types: tuple[str, ...]
    tokenizer: str
    codes: str | None
    source: str
    labels: str
    start: str = "START"
    forced: str = ""
    usual_start: str = "END"


KINDS = (
    Kind(
        "mbart",
        ("mbart",),
        "MBartTokenizer",
        r"([a-z]{2,3}_[A-Z]{2})",
        source="TEXT END SRC",
        labels="TEXT END TGT",
        start="TGT",
    ),
    Kind(
        "mbart50",
        ("mbart",),
        "MBart50Tokenizer",
        r"([a-z]{2,3}_[A-Z]{2})",
        source="SRC TEXT END",
        labels="TGT TEXT END",
        forced="TGT",
    ),
    Kind(
        "m2m100",
        ("m2m_100",),
        "M2M100Tokenizer",
        r"__([a-z]{2,3})__",
        source="SRC TEXT END",
        labels="TGT TEXT END",
        forced="TGT",
    ),
    Kind(
        "nllb",
        ("m2m_100",),
        "NllbTokenizer",
        r"([a-z]{3}_[A-Z][a-z]{3})",
        source="SRC TEXT END",
        labels="TGT TEXT END",
        forced="TGT",
    ),
    Kind(
        "marian-many",
        ("marian",),
        "MarianTokenizer",
        r">>(\w+)<<",
        source="TGT TEXT END",
        labels="TEXT END",
        usual_start="PAD",
    ),
    Kind("marian", ("marian",), "MarianTokenizer", None, source="TEXT END", labels="TEXT END", usual_start="PAD"),
    Kind(
        "madlad",
        ("t5",),
        "",
        r"<2([a-z]{2,3}(?:_\w+)?)>",
        source="PREFIX TEXT END",
        labels="TEXT END",
        usual_start="PAD",
    ),
    Kind(
        "t5",
        ("t5", "mt5", "umt5"),
        "",
        None,
        source="PREFIX TEXT END",
        labels="TEXT END",
        usual_start="PAD",
    ),
)
"""All kinds; the first that fits a model is its kind."""

TYPES = tuple(sorted({model_type for kind in KINDS for model_type in kind.types}))
"""The types in config.json of models that can be told languages."""


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One way through a pair, in token ids.

    An input is ``[*before, *text, *behind]``, the labels are ``[*labels_before, *text, *labels_behind]``, and the
    decoder reads ``[start, *labels[:-1]]``. ``forced`` is the first token that generation is made to write. ``source``
    and ``target`` are the user's words, ``source_code`` and ``target_code`` the model's ("" where it has none).
    ``words`` says it for the record and the screen.
    """

    source: str
    target: str
    source_code: str
    target_code: str
    before: tuple[int, ...]
    behind: tuple[int, ...]
    labels_before: tuple[int, ...]
    labels_behind: tuple[int, ...]
    start: int
    forced: int | None
    words: str

    @property
    def name(self) -> str:
        """Such as "en-de"."""
        return f"{self.source}-{self.target}"

    def inputs(self, text: list[int]) -> list[int]:
        """The encoder's input for a source text's tokens."""
        return [*self.before, *text, *self.behind]

    def labels(self, text: list[int]) -> list[int]:
        """The labels for a target text's tokens."""
        return [*self.labels_before, *text, *self.labels_behind]


def kind_of(model_type: str, tokenizer) -> Kind | None:
    """The kind of a model of that type with that tokenizer; None if there is no such kind."""
    called = type(tokenizer).__name__.removesuffix("Fast")
    for kind in KINDS:
        fits = model_type in kind.types and kind.tokenizer in ("", called)
        if fits and (kind.codes is None or _all_codes(kind, tokenizer)):
            return kind
    return None


def codes_of(kind: Kind, tokenizer, words: int) -> dict[str, int]:
    """The language codes of a vocabulary, with their ids, of which a model that knows ``words`` tokens can use all."""
    return {code: number for code, number in _all_codes(kind, tokenizer).items() if number < words}


def _all_codes(kind: Kind, tokenizer) -> dict[str, int]:
    if kind.codes is None:
        return {}
    known = tokenizer.get_vocab() | getattr(tokenizer, "lang_token_to_id", {})
    return {token: number for token, number in known.items() if re.fullmatch(kind.codes, token)}


def find_code(word: str, kind: Kind, codes: Mapping[str, int]) -> str:
    """The model's code for a language: its own spelling is taken as it is, "de" and "deu" find any one of German's.

    Raises ValueError with the reason if the model does not know the language, or knows several codes for it.
    """
    bare = {re.fullmatch(kind.codes, code)[1]: code for code in codes}
    if word in codes or word in bare:
        return bare.get(word, word)
    wanted = set(spellings(word)) if "_" not in word else set()
    found = [code for name, code in bare.items() if name.split("_")[0] in wanted]
    plain = [code for name, code in bare.items() if name in wanted]
    if len(plain) == 1 or len(found) == 1:
        return (plain if len(plain) == 1 else found)[0]
    if found:
        raise ValueError(f"{word!r} may be {' or '.join(sorted(found))}; give one of them")
    raise ValueError(f"the model does not know {word!r}; nearest of its {len(bare)}: {', '.join(_nearest(word, bare))}")


def _nearest(word: str, bare: Mapping[str, str], most: int = 5) -> list[str]:
    """The bare codes that resemble a word most; those of its own language come first."""
    own = base(word)
    return sorted(bare, key=lambda name: (base(name) != own, -_likeness(word, name), name))[:most]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def check_pair(kind: Kind, codes: Mapping[str, int], source: str, target: str) -> None:
    """Raise UserError for a pair of which a model with these codes does not know a language, or knows two for it."""
    try:
        _told(kind, codes, source, target)
    except ValueError as error:
        raise UserError(Fault("pair", f"{source}-{target}", str(error))) from None


# --- one direction ---------------------------------------------------------------------------------------------------


def direction(kind: Kind, tokenizer, config, source: str, target: str, trained: bool = False) -> Direction:
    """Work out how a model is told to translate from one language to another.

    ``trained``: the model will be fine-tuned on the pair, so that it need not have been trained on it before. Raises
    UserError if it cannot be told: a language that it does not know, or that its vocabulary has several codes for.
    """
    try:
        return _direction(kind, tokenizer, config, source, target, trained)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(Fault("pair", f"{source}-{target}", str(error))) from None


def _direction(kind: Kind, tokenizer, config, source: str, target: str, trained: bool) -> Direction:
    if base(source) == base(target) and (source == target or "_" not in source + target):
        raise ValueError(f"{source!r} and {target!r} are the same language")
    codes = codes_of(kind, tokenizer, config.vocab_size)
    if kind.name.startswith("marian"):
        _check_pair(tokenizer, source, target, trained, single=kind.name == "marian")
    from_, to = _told(kind, codes, source, target)
    ids = {"SRC": _ids(codes, from_), "TGT": _ids(codes, to)}
    prefix = _prefix(kind, config, from_, to, source, target, trained) if "PREFIX" in kind.source else ""
    if prefix:
        ids["PREFIX"] = tuple(tokenizer(prefix, add_special_tokens=False)["input_ids"])
        if ids["TGT"] and ids["TGT"][0] not in ids["PREFIX"]:
            raise ValueError(f"its tokenizer does not read {to} as one token")
    start, said = _start(kind, tokenizer, config)
    of_source = ids | {"END": (tokenizer.eos_token_id,)}
    of_target = ids | {"END": (special(tokenizer, "eos", target=True),), "START": (start,)}
    before, behind = _around(kind.source, of_source)
    labels_before, labels_behind = _around(kind.labels, of_target)
    shown = {"SRC": from_, "TGT": to, "PREFIX": repr(prefix), "START": said, "END": "</s>", "TEXT": "text"}
    read, first, written = (_shown(layout, shown) for layout in (kind.source, kind.start, kind.labels))
    return Direction(
        source=source,
        target=target,
        source_code=from_,
        target_code=to,
        before=before,
        behind=behind,
        labels_before=labels_before,
        labels_behind=labels_behind,
        start=of_target[kind.start][0],
        forced=of_target[kind.forced][0] if kind.forced else None,
        words=f"reads {read}; from {first} writes {written}",
    )


def _told(kind: Kind, codes: Mapping[str, int], source: str, target: str) -> tuple[str, str]:
    """What stands for the two languages where the model is told them: codes, or names in English."""
    uses = f"{kind.source} {kind.labels}".split()
    if kind.name == "t5":
        return _name(source), _name(target)
    from_ = find_code(source, kind, codes) if "SRC" in uses else ""
    to = find_code(target, kind, codes) if kind.codes else ""
    if from_ and from_ == to:
        raise ValueError(f"{source!r} and {target!r} are the same language, {to}")
    return from_, to


def _name(word: str) -> str:
    name = english(word)
    if name is None:
        raise ValueError(f"the model is told languages by their English names, and {word!r} has none in the table")
    return name


def _prefix(kind: Kind, config, from_: str, to: str, source: str, target: str, trained: bool) -> str:
    """The words in front of the text; raises ValueError for a pair that T5 was not trained on, if it lists its own."""
    if kind.name == "madlad":
        return f"{to} "
    tasks = getattr(config, "task_specific_params", None) or {}
    pairs = {name.removeprefix("translation_").replace("_to_", "-"): task for name, task in tasks.items()}
    pairs = {name: task for name, task in pairs.items() if f"translation_{name.replace('-', '_to_')}" in tasks}
    own = pairs.get(f"{base(source)}-{base(target)}")
    if pairs and own is None and not trained:
        raise ValueError(
            f"the model was trained on {', '.join(sorted(pairs))} alone; fine-tune it, or give one of them"
        )
    given = own.get("prefix") if isinstance(own, Mapping) else None
    return given or f"translate {from_} to {to}: "


def _start(kind: Kind, tokenizer, config) -> tuple[int, str]:
    """The START of a layout, and how it is called; raises ValueError for one that the model does not have."""
    start, size = getattr(config, "decoder_start_token_id", None), decoder_size(config)
    if start is None:
        role = {"END": "eos", "PAD": "pad"}[kind.usual_start]
        start = special(tokenizer, role, target=True)
    if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < size:
        raise ValueError(f"config.json says decoder_start_token_id {start!r}; it must be a token's number below {size}")
    named = {special(tokenizer, role, target=True): word for role, word in (("pad", "<pad>"), ("eos", "</s>"))}
    return start, named.get(start, f"token {start}")


def decoder_size(config) -> int:
    """How many tokens the decoder knows; Marian's two sides may have vocabularies of their own."""
    return getattr(config, "decoder_vocab_size", None) or config.vocab_size


def special(tokenizer, role: str, target: bool = False) -> int:
    """The id of a special token ("eos", "pad") in the source's or the target's vocabulary."""
    apart = getattr(tokenizer, "target_encoder", None) if target else None
    return apart[getattr(tokenizer, f"{role}_token")] if apart else getattr(tokenizer, f"{role}_token_id")


def _check_pair(tokenizer, source: str, target: str, trained: bool, single: bool) -> None:
    """Refuse a direction that a Marian model was not made for; a group of languages, such as "mul", says nothing.

    Without a code for the target nothing tells the model another one, fine-tuned or not.
    """
    made = [str(getattr(tokenizer, f"{side}_lang", None) or "").rpartition("-")[2] for side in ("source", "target")]
    known = [base(name) if english(name) else None for name in made]
    if single and not made[1]:
        raise ValueError("tokenizer_config.json names no target_lang, and the vocabulary has no code for one")
    wrong_source = known[0] not in (None, base(source)) and not trained
    wrong_target = single and made[1] and base(made[1]) != base(target)
    if wrong_source or wrong_target:
        raise ValueError(
            f"the model translates {made[0] or 'any language'} to {made[1]} only; give that direction alone"
        )


def _ids(codes: Mapping[str, int], code: str) -> tuple[int, ...]:
    return (codes[code],) if code in codes else ()


def _around(layout: str, ids: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and behind the text."""
    before, _, behind = layout.partition("TEXT")
    return tuple(tuple(number for word in side.split() for number in ids[word]) for side in (before, behind))


def _shown(layout: str, shown: Mapping[str, str]) -> str:
    return " ".join(shown[word] for word in layout.split())
