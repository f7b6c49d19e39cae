"""The command line of the report; ``--help`` and mistakes answer before the libraries are loaded."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from junkdna.errors import UserError
from junkdna.report import collect, figures
from junkdna.runs import records
from junkdna.runs.speech import explain

BASES = ("dense", "first")
FILES = ["summary.csv", "summary.md", "claims.csv", "claims.md", "curves.png", "curves.svg", "report.html"]


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(
        prog="python -m junkdna.report" if sys.argv[0].endswith("__main__.py") else os.path.basename(sys.argv[0]),
        description=f"A tree of runs -> tables, figures, claims and one HTML page: {', '.join(FILES)}.",
    )
    made.add_argument("runs", nargs="+", metavar="RUNS", help="folders that hold runs, at any depth")
    made.add_argument(
        "--out", default=".", metavar="DIR", help="where to write; made if needed; default the current folder"
    )
    made.add_argument(
        "--normalise", default="dense", choices=BASES,
        help="what 100 %% is: 'dense' (default), the dense run of the same seed, task, percentage and training; or 'first', the "
        "same seed's run at the curve's lowest sparsity, as in the paper's unstructured panels of varying data adequacy",
    )  # fmt: skip
    made.add_argument(
        "--metric", metavar="NAME",
        help="the metric to compare wherever a run has it, such as f1 or mm_accuracy (MNLI mismatched); default the first of each task",
    )  # fmt: skip
    made.add_argument(
        "--published", action="store_true",
        help="lay the paper's own curves of the same task, percentage, transfer and pattern over the figures; default off",
    )  # fmt: skip
    made.add_argument(
        "--figure", metavar="FILE", help="write the figure to this file too, .png, .svg or .pdf; default only to --out"
    )
    return made


def main(argv: list[str] | None = None) -> int:
    """Write the report; return the exit code (2 for a mistake in the arguments)."""
    args = parser().parse_args(argv)
    try:
        report(args.runs, Path(args.out), args.normalise == "first", args.metric, args.published, args.figure)
    except (UserError, ModuleNotFoundError) as error:
        return explain(error)
    return 0


def report(roots: list[str], out: Path, first: bool, metric: str | None, published: bool, figure: str | None) -> None:
    """Read the runs and write every file of the report; raises UserError for what cannot be read or written."""
    figures.check(figure)
    cells, unreadable = collect.collect(roots, metric)
    make_folder(out, "--out")
    if figure:
        make_folder(Path(figure).parent, "--figure")

    from junkdna.report import claims, page, summary, tables
    from junkdna.report import published as theirs

    cells = summary.normalise(cells, first)
    points = summary.points(cells)
    claimed = claims.both(cells, first)
    differs, mixed = summary.differences(cells), summary.mixed(cells)

    means = tables.means(points, first)
    problems = tables.problems(cells, summary.missing(cells, first), unreadable)
    claims_text = tables.claims(claimed, first)
    differences = f"{tables.differences(differs)}\n{tables.inside(mixed)}"
    text = (
        f"# Summary\n\n## Means over seeds\n\n{means}\n## Missing, failed, not finished\n\n{problems}\n"
        f"## What differs between the runs\n\n{differences}\n## Claims\n\n{claims_text}"
    )
    write(out / "summary.csv", summary.tidy(cells).to_csv(index=False))
    write(out / "summary.md", text)
    write(out / "claims.csv", claimed.to_csv(index=False))
    write(out / "claims.md", f"# Claims\n\n{claims_text}")
    figures.write(
        points, [out / "curves.png", out / "curves.svg", *([Path(figure)] if figure else [])], published, first
    )
    write(out / "report.html", page.page(cells, points, claimed, differs, mixed, unreadable, published, first))

    print(means)
    lacking = theirs.absent(points, theirs.beside(points)) if published else []
    for line in [*lacking, *(f"{cell.status}: {cell.path} {cell.error}" for cell in unfinished(cells)), *mixed]:
        print(line.rstrip())
    print(f"written: {', '.join(str(out / name) for name in FILES)}" + (f", {figure}" if figure else ""))


def unfinished(cells):
    """The cells that have no result, as tuples."""
    return cells.loc[cells["status"] != collect.DONE, ["status", "path", "error"]].itertuples()


def make_folder(folder: Path, flag: str) -> None:
    """Make a folder to write to; raises UserError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be a folder to write to: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder}: cannot be written to")


def write(path: Path, text: str) -> None:
    records.write_bytes(path, text.encode())


if __name__ == "__main__":
    sys.exit(main())
