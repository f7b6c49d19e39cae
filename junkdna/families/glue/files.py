"""A task in csv or json-lines files of one's own."""

from __future__ import annotations

from dataclasses import dataclass

from junkdna.errors import Faults, UserError
from junkdna.families.encoder.examples import Examples, TaskData
from junkdna.families.glue import columns as named
from junkdna.families.glue import values
from junkdna.families.glue.columns import Columns
from junkdna.families.glue.tables import Table, read_table


def read_files(
    train_file: str, validation_file: str, text_columns: tuple[str, ...] = (), label_column: str | None = None
) -> TaskData:
    """Read two files that agree in their columns, by name; float labels in the training file mean regression.

    ``text_columns`` (one or two) and ``label_column`` say which columns are read; ``columns.choose`` says which are
    otherwise. Labels are numbered in sorted order of those in the training file (numbers by value). Raises UserError.
    """
    faults = Faults()
    first = faults.collect(read_table, f"--train_file {train_file}", train_file)
    chosen = faults.collect(named.choose, first, text_columns, label_column) if first else None
    second = faults.collect(read_table, f"--validation_file {validation_file}", validation_file)
    faults.raise_any()
    named.agree(chosen, first, second, named=bool(text_columns))
    tables = (first, second)
    read = [faults.collect(_read, table, chosen) for table in tables]
    faults.raise_any()
    train, evals = read
    if any(map(_is_score, train.labels)):
        examples, names, metrics = [_regression(train, train), _regression(train, evals)], (), ("pearson", "spearmanr")
    else:
        names, metrics = _classes(train, evals), ("accuracy",)
        examples = [file.examples({name: i for i, name in enumerate(names)}) for file in read]
    source = f"{train_file}, {validation_file}"
    return TaskData(
        examples[0],
        {"eval": examples[1]},
        metrics,
        source,
        label_names=names,
        text_columns=chosen.texts,
        label_column=chosen.label,
    )


@dataclass(frozen=True)
class File:
    """One file as it was read: its table, the rows' texts and their labels, as text."""

    table: Table
    texts: list[tuple[str, ...]]
    labels: list[str]

    def examples(self, numbers: dict[str, int] | dict[str, float]) -> Examples:
        return Examples(self.texts, [numbers[label] for label in self.labels])

    def wrong(self, label: str, reason: str) -> UserError:
        """An error about a label, with the first row that has it."""
        return self.table.wrong(self.labels.index(label), reason)


def _read(table: Table, chosen: Columns) -> File:
    """Return the columns that are read, every cell of them checked."""
    faults = Faults()
    place = table.columns.index
    texts = [faults.collect(values.texts, table, place(name), name) for name in chosen.texts]
    labels = faults.collect(values.labels, table, place(chosen.label), chosen.label)
    faults.raise_any()
    return File(table, list(zip(*texts)), labels)


def _is_score(label: str) -> bool:
    """Whether a label can only be a score: a number that is not written as a whole one."""
    return values.is_float(label) and not values.is_int(label)


def _regression(train: File, file: File) -> Examples:
    """Return a file's examples with numbers for labels."""
    numbers = {label: values.score(label) for label in dict.fromkeys(file.labels)}
    for label, number in numbers.items():
        if number is None:
            score = next(text for text in train.labels if _is_score(text))
            reason = f" beside the number {score}; give finite numbers only (regression) or names only (classes)"
            if file is not train:
                reason = ", which is not a finite number (of fp32), but the training labels are numbers (regression)"
            raise file.wrong(label, f"has label {label!r}{reason}")
    return file.examples(numbers)


def _classes(train: File, evals: File) -> tuple[str, ...]:
    """Return the names of the classes in their order; raises UserError for labels that are not those of classes."""
    order = lambda label: (0, int(label), label) if values.is_int(label) else (1, 0, label)  # noqa: E731
    names = sorted(set(train.labels), key=order)
    where = train.table.where
    _check_spellings(train, evals)
    if len(names) < 2:
        raise UserError(f"{where}: all rows have the same label {names[0]!r}; two or more are needed")
    if len(names) > max(100, len(train.labels) // 2):
        raise UserError(
            f"{where}: has {len(names)} different labels in {len(train.labels)} rows; is the label in another column "
            "(--label_column)?"
        )
    unknown = sorted(set(evals.labels) - set(names))
    if unknown:
        reason = f"has label {unknown[0]!r}, which {where} lacks; its labels: {' '.join(names[:20])}"
        raise evals.wrong(unknown[0], reason)
    return tuple(names)


def _check_spellings(*files: File) -> None:
    """Refuse two labels that are one label in two spellings."""
    first: dict[int | str, tuple[str, File]] = {}
    for file in files:
        for label in dict.fromkeys(file.labels):
            other, at = first.setdefault(values.spelling(label), (label, file))
            if other != label:
                there = f"row {at.labels.index(other) + 1}" + ("" if at is file else f" of {at.table.where}")
                reason = f"has label {label!r} and {there} has {other!r}, which differ in case, sign, leading zeros"
                raise file.wrong(label, f"{reason} or spaces only; write one label in one way")
