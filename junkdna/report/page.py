"""One self-contained HTML page: curves to hover over, the table of all cells, the matrices of a run, claims and differences.

plotly.js, style, script and data stand in the file; a policy in its head forbids it to load anything. Data goes in as JSON that
cannot end its script element, and the script shows it as text only: a folder's name is never taken for markup.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from junkdna.report import published, summary, tables
from junkdna.report.collect import DONE
from junkdna.report.figures import HIGH, LOW, axis_places, line_names, looks
from junkdna.runs import records

HERE = Path(__file__).parent
SHOWN = [
    *(
        "status",
        "model",
        "task",
        "percentage",
        "curve",
        "pattern",
        "seed",
        "metric",
        "value",
        "normalised",
        "above_chance",
    ),
    *("sparsity", "folder", "error"),
]
"""Columns of the table at first; the others come with a check box."""


def page(
    cells, points, claims, differences, mixed: list[str], unreadable: list[str], overlay: bool, first: bool
) -> str:
    """Return the page's text."""
    from plotly.offline import get_plotlyjs

    content = json.dumps(
        data(cells, points, claims, differences, mixed, unreadable, overlay, first),
        allow_nan=False,
        separators=(",", ":"),
    )
    parts = {
        "style": (HERE / "page.css").read_text(),
        "plotly": get_plotlyjs(),
        "data": safe(content),
        "script": (HERE / "page.js").read_text(),
    }
    text = (HERE / "page.html").read_text()
    for name, part in parts.items():
        before, after = text.split(f"<!-- {name} -->")  # once each: what was put in is not searched for the next
        text = before + part + after
    return text


def safe(text: str) -> str:
    """JSON that is the same value and holds nothing that HTML could read."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def data(
    cells, points, claims, differences, mixed: list[str], unreadable: list[str], overlay: bool, first: bool
) -> dict:
    """Everything that the page shows, as JSON values."""
    table = summary.tidy(cells)
    columns = [*SHOWN, *(name for name in table.columns if name not in SHOWN)]
    rows = [[plain(value) for value in row] for row in table[columns].itertuples(index=False)]
    for line, pattern, seed in summary.missing(cells, first):
        hole = dict(zip(summary.LINE, line)) | {"status": "missing", "pattern": pattern, "seed": plain(seed)}
        rows.append([hole.get(name) for name in columns])
    theirs = published.beside(points) if overlay else points.iloc[:0]
    pruned = points[points["kind"] != "dense"].assign(line=line_names)
    nm = points[points["kind"] == "N:M"]
    return {
        "first": first,
        "columns": columns,
        "shown": len(SHOWN),
        "rows": rows,
        "lines": line_names(cells),
        "looks": [{name: plain(value) for name, value in look.items()} for look in looks(pruned)],
        "limits": [LOW, HIGH],
        "nm": list(axis_places(nm, theirs[theirs["kind"] == "N:M"] if overlay else None)),
        "published": [
            {name: plain(value) for name, value in zip(theirs.columns, row)}
            | {"label": published.label(row._asdict()), "short": published.short_label(row.model, row.base)}
            for row in theirs.itertuples(index=False)
        ]
        if overlay
        else [],
        "matrices": matrices(cells),
        "claims": [
            {"title": title, "tables": [form(made) for made in made_tables]}
            for title, made_tables in tables.claim_tables(claims, first)
        ],
        "explained": tables.explained(first),
        "differences": form(tables.difference_rows(differences)),
        "mixed": mixed,
        "unreadable": unreadable,
    }


def matrices(cells) -> dict:
    """The masks' counts per matrix, each mask once: ``of`` maps a row's number to one of ``masks``."""
    masks, of, known = [], {}, {}
    for row, (path, status) in enumerate(zip(cells["path"], cells["status"])):
        pruning = (records.read(Path(path) / records.RUN) or {}).get("pruning") or {}
        rows = pruning.get("matrices") if status == DONE else None
        if rows:
            counts = [
                [str(m["name"]), "x".join(map(str, m["shape"])), m["removed"], m["kept"], bool(m["head"])] for m in rows
            ]
            key = json.dumps(counts)
            if key not in known:
                known[key] = len(masks)
                masks.append(counts)
            of[row] = known[key]
    return {"masks": masks, "of": of}


def form(table: tables.Table) -> dict:
    return {"head": table.head, "rows": table.rows, "right": sorted(table.right)}


def plain(value):
    """A value that JSON knows: NaN becomes null, a list its text."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
