"""The names of a classifier's outputs, which a configuration says twice: ``id2label`` and ``label2id``."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = "LABEL_"
"""What outputs are called that nobody has named: LABEL_0, LABEL_1, ..."""

SHOWN = 8
"""Names or numbers of outputs that a message shows."""


def named(config: Mapping) -> dict[int, str]:
    """Return the name of every output by its number, {} if none is named; raises ValueError if the maps are unclear.

    Names of the form LABEL_0 count as none: they stand beside the true ones in what older programs wrote.
    """
    maps = [_by_number(config.get("id2label")), _by_name(config.get("label2id"))]
    said = [names for names in maps if names and not all(name.startswith(DEFAULT) for name in names.values())]
    if len(said) == 2 and said[0] != said[1]:
        raise ValueError(f"id2label and label2id contradict each other ({_words(said[0])} against {_words(said[1])})")
    return said[0] if said else {}


def order_of(theirs: Mapping[int, str], ours: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the model's number of each of the task's labels; None if they are not called alike, in any case."""
    numbers = {name.lower(): number for number, name in theirs.items()}
    wanted = [name.lower() for name in ours]
    alike = ours and len(set(wanted)) == len(wanted) == len(theirs) and sorted(numbers) == sorted(wanted)
    return tuple(numbers[name] for name in wanted) if alike else None


def _by_number(id2label) -> dict[int, str]:
    if id2label in (None, {}, []):
        return {}
    if not isinstance(id2label, Mapping):
        raise ValueError("id2label is not an object")
    return _checked("id2label", [(number, name) for number, name in id2label.items()])


def _by_name(label2id) -> dict[int, str]:
    if label2id in (None, {}, []):
        return {}
    if not isinstance(label2id, Mapping):
        raise ValueError("label2id is not an object")
    return _checked("label2id", [(number, name) for name, number in label2id.items()])


def _checked(key: str, pairs: list[tuple]) -> dict[int, str]:
    """Return number -> name; raises ValueError unless every number from 0 on stands there once, with a name of its
    own.
    """
    try:
        numbers = [int(str(number)) for number, _ in pairs]
    except ValueError:
        raise ValueError(f"{key} numbers its labels with something else than numbers") from None
    if sorted(numbers) != list(range(len(numbers))):
        shown = ", ".join(map(str, numbers[:SHOWN])) + (", ..." if len(numbers) > SHOWN else "")
        raise ValueError(f"{key} numbers its {len(numbers)} labels {shown}, not from 0 to {len(numbers) - 1}")
    names = dict(sorted(zip(numbers, (str(name) for _, name in pairs))))
    twice = next((name for name in names.values() if list(names.values()).count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{key} names two labels {twice!r}")
    return names


def _words(names: Mapping[int, str]) -> str:
    shown = [f"{number} {name!r}" for number, name in names.items()][:SHOWN]
    return ", ".join(shown)
