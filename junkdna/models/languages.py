"""How a translation model is told its two languages: one table, and what it makes of a pair such as "en-de".

Knows tokenizers and configurations by what they hold, and imports neither torch nor transformers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Known:
    """What a model, or its files, say of languages.

    ``codes`` are its language codes with their ids, ``made_for`` source and target of Marian's tokenizer ("" where it
    names none), ``tasks`` T5's ``task_specific_params``.
    """

    kind: Kind
    codes: Mapping[str, int]
    made_for: tuple[str, str] = ("", "")
    tasks: Mapping[str, object] = field(default_factory=dict)


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


def check_ways(known: Known, ways: Iterable[tuple[str, str]], trained: bool) -> None:
    """Raise UserError for the first of a pair's directions, as (source, target), that such a model cannot be told."""
    for source, target in ways:
        try:
            _told(known, source, target, trained)
        except ValueError as error:
            raise UserError(Fault("pair", f"{source}-{target}", str(error))) from None


def _told(known: Known, source: str, target: str, trained: bool) -> tuple[str, str]:
    """What stands for the two languages where the model is told them: codes, or names in English.

    Raises ValueError with the reason if the model cannot be told them, or was made for others.
    """
    kind = known.kind
    if base(source) == base(target) and (source == target or "_" not in source + target):
        raise ValueError(f"{source!r} and {target!r} are the same language")
    if kind.name.startswith("marian"):
        _check_made_for(known, source, target, trained)
    if kind.name == "t5":
        names = _name(source), _name(target)
        _check_tasks(known, source, target, trained)
        return names
    from_ = find_code(source, kind, known.codes) if "SRC" in f"{kind.source} {kind.labels}".split() else ""
    to = find_code(target, kind, known.codes) if kind.codes else ""
    if from_ and from_ == to:
        raise ValueError(f"{source!r} and {target!r} are the same language, {to}")
    return from_, to


def _name(word: str) -> str:
    name = english(word)
    if name is None:
        raise ValueError(f"the model is told languages by their English names, and {word!r} has none in the table")
    return name


def _check_made_for(known: Known, source: str, target: str, trained: bool) -> None:
    """Refuse a direction that a Marian model was not made for; a group of languages, such as "mul", says nothing.

    Without a code for the target nothing tells the model another one, fine-tuned or not.
    """
    single, made = known.kind.codes is None, known.made_for
    reads = base(made[0]) if english(made[0]) else None
    if single and not made[1]:
        raise ValueError("tokenizer_config.json names no target_lang, and the vocabulary has no code for one")
    wrong_source = reads not in (None, base(source)) and not trained
    wrong_target = single and base(made[1]) != base(target)
    if wrong_source or wrong_target:
        raise ValueError(
            f"the model translates {made[0] or 'any language'} to {made[1]} only; give that direction alone"
        )


def _check_tasks(known: Known, source: str, target: str, trained: bool) -> None:
    """Refuse a pair that T5 was not trained on, if it lists its own and is not fine-tuned on this one."""
    pairs = _pairs(known)
    if pairs and not trained and f"{base(source)}-{base(target)}" not in pairs:
        listed = ", ".join(sorted(pairs))
        raise ValueError(f"the model was trained on {listed} alone; fine-tune it, or give one of them")


def _pairs(known: Known) -> dict[str, object]:
    """The pairs that T5 lists as its tasks, such as "en-de", with what it says of them."""
    taken = ((re.fullmatch(r"translation_(.+)_to_(.+)", name), task) for name, task in known.tasks.items())
    return {f"{found[1]}-{found[2]}": task for found, task in taken if found}


# --- one direction ---------------------------------------------------------------------------------------------------


def known_of(kind: Kind, tokenizer, config) -> Known:
    """What a model of that kind knows of languages, by its tokenizer and its configuration."""
    made_for = sides(lambda name: getattr(tokenizer, name, None))
    tasks = getattr(config, "task_specific_params", None) or {}
    return Known(kind, codes_of(kind, tokenizer, config.vocab_size), made_for, tasks)


def sides(setting: Callable[[str], str | None]) -> tuple[str, str]:
    """The source and target that a tokenizer's settings name: "en" also of "big-en"; "" for none."""
    source, target = (str(setting(name) or "").rpartition("-")[2] for name in ("source_lang", "target_lang"))
    return source, target


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
    known = known_of(kind, tokenizer, config)
    from_, to = _told(known, source, target, trained)
    ids = {"SRC": _ids(known.codes, from_), "TGT": _ids(known.codes, to)}
    prefix = _prefix(known, from_, to, source, target) if "PREFIX" in kind.source else ""
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


def _prefix(known: Known, from_: str, to: str, source: str, target: str) -> str:
    """The words in front of the text: T5's own for the pair, if it lists them."""
    if known.kind.name == "madlad":
        return f"{to} "
    own = _pairs(known).get(f"{base(source)}-{base(target)}")
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


def _ids(codes: Mapping[str, int], code: str) -> tuple[int, ...]:
    return (codes[code],) if code in codes else ()


def _around(layout: str, ids: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and behind the text."""
    before, _, behind = layout.partition("TEXT")
    return tuple(tuple(number for word in side.split() for number in ids[word]) for side in (before, behind))


def _shown(layout: str, shown: Mapping[str, str]) -> str:
    return " ".join(shown[word] for word in layout.split())
