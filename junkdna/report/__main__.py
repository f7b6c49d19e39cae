"""The command line of the report; ``--help`` and mistakes answer before the libraries are loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.errors import Faults, UserError
from junkdna.report import collect, figures, reading, scales, stored, writing
from junkdna.runs.commandline import Parser
from junkdna.runs.settings import path
from junkdna.runs.speech import explain, in_one_line, open_streams, say

if TYPE_CHECKING:
    from pandas import DataFrame

BASES = ("dense", "first")
SHAPING = ("out", "normalise", "metric", "scale", "published")
"""Flags that say what a report is made of."""

FILES = [
    "summary.csv",
    "summary.md",
    "claims.csv",
    "claims.md",
    "curves.png",
    "curves.svg",
    "points.json",
    "report.html",
]


def parser(faults: Faults) -> Parser:
    """Return the parser."""
    made = Parser(
        f"A tree of runs -> tables, figures, claims and one HTML page: {', '.join(FILES)}.",
        faults,
        prog="python -m junkdna.report" if sys.argv[0].endswith("__main__.py") else None,
    )
    made.add_argument(
        "runs",
        nargs="+",
        type=path,
        metavar="RUNS",
        help="folders that hold runs, at any depth; or the points.json of one report, whose "
        "figure is then drawn again to --figure",
    )
    made.add_argument(
        "--out",
        default=".",
        type=path,
        metavar="DIR",
        help="where to write; made if needed; default the current folder",
    )
    made.add_argument(
        "--normalise", default="dense", choices=BASES,
        help="what 100 %% is: 'dense' (default), the dense run of the same seed, axes and training; or 'first', the "
        "same seed's run at the curve's lowest sparsity, as in the paper's unstructured panels of data adequacy",
    )  # fmt: skip
    made.add_argument(
        "--metric", metavar="NAME",
        help="the metric to compare wherever a run has it, such as f1 or mm_accuracy; default the main one of each run",
    )  # fmt: skip
    made.add_argument(
        "--scale", default="share", choices=scales.SCALES,
        help="how a value stands beside what it is compared with: 'share' (default), value / dense; or 'change', "
        "(value - dense) / dense, as in the paper's figures of open and closed book",
    )  # fmt: skip
    made.add_argument(
        "--published", action="store_true",
        help="lay the paper's own curves of the same axes, treatment and pattern over the figures; default off",
    )  # fmt: skip
    made.add_argument(
        "--figure",
        type=path,
        metavar="FILE",
        help="write the figure to this file too, .png, .svg or .pdf; default only to --out",
    )
    return made


def main(argv: list[str] | None = None) -> int:
    """Write the report; return the exit code (2 for a mistake in the arguments)."""
    open_streams()
    args = arguments(argv)
    try:
        if any(map(os.path.isfile, args.runs)):
            redraw(args)
            return 0
        chosen = {"metric": args.metric, "published": args.published, "figure": args.figure}
        report(args.runs, Path(args.out), first=args.normalise == "first", scale=args.scale, **chosen)
    except (UserError, ModuleNotFoundError) as error:
        return explain(error)
    except BrokenPipeError:  # whoever read the output has gone, as in  ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # the machine's: a folder for the libraries' own files, memory, file handles
        return explain(UserError(in_one_line(error)))
    except KeyboardInterrupt:
        print("interrupted; no file was changed", file=sys.stderr)
        return 130
    return 0


def arguments(argv: list[str] | None):
    """Return the values of the flags; a mistake in them ends the program with code 2, as argparse does."""
    faults = Faults()
    try:
        args = parser(faults).parse_args(argv)
        faults.raise_any()
    except UserError as error:
        sys.exit(explain(error))
    return args


def redraw(args) -> None:
    """Draw the figure of an earlier report from its points; raises UserError for what goes with runs only."""
    defaults = parser(Faults()).get_default
    only = [f"--{name}" for name in SHAPING if getattr(args, name) != defaults(name)]
    if len(args.runs) > 1 or only or not args.figure:
        reason = "takes --figure FILE and nothing else"
        raise UserError(
            f"{' '.join(args.runs)}{' ' if only else ''}{' '.join(only)}: a report's {stored.NAME} {reason}"
        )
    figures.check(args.figure)
    writing.make_folder(Path(args.figure).parent, "--figure")
    made = stored.read(Path(args.runs[0]))

    from junkdna.report import published

    overlay = published.beside(made.points) if made.published else None
    writing.write_all(figures.pictures(made.points, [Path(args.figure)], overlay, made.first, scale=made.scale))
    say(f"written: {args.figure}")


def report(
    roots: list[str], out: Path, *, first: bool, scale: str, metric: str | None, published: bool, figure: str | None
) -> None:
    """Read the runs and write every file of the report; raises UserError for what cannot be read or written."""
    figures.check(figure)
    cells, unreadable = collect.collect(roots, metric)
    writing.make_folder(out, "--out")
    writing.check_own(out, FILES)
    if figure:
        writing.make_folder(Path(figure).parent, "--figure")
    found = find(cells, unreadable, first, published, scale=scale)

    from junkdna.report import forms, page, summary, tables

    means = tables.means(found.points, first, scale)
    claims = tables.claims(found.claims, first)
    texts = {
        "summary.csv": forms.csv(summary.tidy(found.cells)),
        "summary.md": summary_text(found, means, claims),
        "claims.csv": forms.csv(found.claims),
        "claims.md": f"# Claims\n\n{claims}",
        stored.NAME: stored.text(stored.Stored(found.points, first, scale, published)),
        "report.html": page.page(found),
    }
    pictures = [out / "curves.png", out / "curves.svg", *([Path(figure)] if figure else [])]
    files = {out / name: text.encode() for name, text in texts.items()}
    writing.write_all(files | figures.pictures(found.points, pictures, found.overlay, first, scale=scale))
    tell(found, means)
    say(f"written: {', '.join(str(out / name) for name in FILES)}" + (f", {figure}" if figure else ""))


def find(cells: DataFrame, unreadable: list[str], first: bool, overlay: bool, *, scale: str = "share"):
    """Work out everything that the report shows."""
    from junkdna.report import claims, differences, folds, page, published, summary

    means = folds.average(cells)
    seeds = summary.normalise(means, first)
    cells = seeds if means is cells else summary.normalise(cells, first)
    points = summary.points(seeds)
    return page.Findings(
        cells=cells,
        seeds=seeds,
        points=points,
        claims=claims.both(seeds, first),
        differences=differences.differences(cells),
        mixed=differences.mixed(cells),
        holes=summary.missing(cells, first),
        unreadable=unreadable,
        overlay=published.beside(points) if overlay else None,
        first=first,
        scale=scale,
    )


def summary_text(found, means: str, claims: str) -> str:
    """The text of ``summary.md``."""
    from junkdna.report import effort, tables

    problems = tables.problems(found.cells, found.holes, found.unreadable)
    differences = f"{tables.differences(found.differences)}\n{tables.inside(found.mixed)}"
    return (
        f"# Summary\n\n## Means over seeds\n\n{means}\n## Missing, failed, not finished\n\n{problems}\n"
        f"## What the runs took\n\n{effort.effort(found.cells).markdown()}\n{effort.software(found.cells)}\n"
        f"## What differs between the runs\n\n{differences}\n## Claims\n\n{claims}"
    )


def tell(found, means: str) -> None:
    """Print the means, and what is not in them."""
    from junkdna.report import published

    say(means)
    lacking = [] if found.overlay is None else published.absent(found.points, found.overlay)
    failed = [f"{cell.status}: {cell.path} {cell.error}" for cell in unfinished(found.cells)]
    unreadable = [f"unreadable: {one}" for one in found.unreadable]
    for line in [*lacking, *failed, *unreadable, *found.mixed]:
        say(line.rstrip())


def unfinished(cells: DataFrame):
    """The cells that have no result, as tuples."""
    lacking = ~cells["status"].isin(reading.SETTLED)
    return cells.loc[lacking, ["status", "path", "error"]].itertuples()


if __name__ == "__main__":
    sys.exit(main())
