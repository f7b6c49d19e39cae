"""A tree of runs -> one table and one figure:  python -m junkdna.report RUNS... [--out DIR]

Writes ``summary.csv`` (one row per run, every setting and metric), ``summary.md`` (means over seeds, normalised to the dense
run of the same model, task, percentage and seed) and ``curves.png`` / ``curves.svg`` (one panel per task).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from junkdna import records
from junkdna.cell import file_label
from junkdna.errors import UserError

GROUP = ["model", "task", "percentage", "curve", "pattern"]
"""What one point of a curve is: its runs differ in the seed."""

TRAINING = [
    *("learning_rate", "weight_decay", "num_train_epochs", "max_train_steps", "per_device_train_batch_size"),
    *("num_processes", "gradient_accumulation_steps", "lr_scheduler_type", "num_warmup_steps", "mixed_precision"),
    *("max_length", "max_train_samples", "max_eval_samples", "model_revision"),
]
SCOPE = ["noembed", "prune_exclude", "mask_file"]
"""Settings in which the runs of one curve, and (training) the dense run they are normalised by, must agree."""


def main(argv: list[str] | None = None) -> int:
    """Write the report; return the exit code (2 for a mistake in the arguments)."""
    parser = argparse.ArgumentParser(prog="python -m junkdna.report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folders that hold runs, at any depth")
    parser.add_argument("--out", default=".", metavar="DIR", help="where to write; default the current folder")
    args = parser.parse_args(argv)
    try:
        table, unfinished = collect(args.runs)
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        points = summarise(table)
        columns = [name for name in table.columns if name not in ("training", "scope")]
        records.write_bytes(out / "summary.csv", table[columns].to_csv(index=False).encode())
        text = markdown(points, unfinished)
        records.write_bytes(out / "summary.md", text.encode())
        draw(points, out)
    except UserError as error:
        print("\n".join(f"error: {fault}" for fault in error.faults), file=sys.stderr)
        return 2
    print(text)
    print(
        f"written: {', '.join(str(out / name) for name in ('summary.csv', 'summary.md', 'curves.png', 'curves.svg'))}"
    )
    return 0


# --- reading ---------------------------------------------------------------------------------------------------------


def collect(roots: list[str]):
    """Return (one row per finished run as a DataFrame, folders of unfinished runs); raises UserError if there is none."""
    import pandas as pd

    rows, unfinished = [], []
    for root in roots:
        if not os.path.isdir(root):
            raise UserError(f"RUNS {root}: no such folder")
        for path in sorted(Path(root).rglob(records.RUN)):
            if records.PREVIOUS in path.parts:
                continue
            results = records.finished(path.parent)
            if results is None:
                unfinished.append(str(path.parent))
            else:
                rows.append(row(path.parent, records.read(path), results))
    if not rows:
        raise UserError(f"RUNS {' '.join(roots)}: no finished run in there")
    table = pd.DataFrame(rows).drop_duplicates("folder")
    tell_apart(table)
    return normalise(table), unfinished


def row(folder: Path, run: dict, results: dict) -> dict:
    """Return one run as a flat row."""
    settings, data = run["settings"], run["data"]
    metric = f"eval_{data['metrics'][0]}"
    transfer = run["pruning"]["transfer"]
    kind = {"sparse_nm": "N:M", "sparse_unstructured": "unstructured", "dense": ""}.get(
        settings["sparse_init"], settings["sparse_init"]
    )
    return {
        "folder": str(folder),
        "model": Path(settings["model_name_or_path"].rstrip("/")).name,
        "task": settings["task_name"] or file_label(settings["train_file"]),
        "percentage": settings["validation_split_percentage"],
        "curve": f"{transfer}, {kind}" if kind else transfer,
        "training": tuple(str(settings.get(name)) for name in TRAINING),
        "scope": tuple(str(settings.get(name)) for name in SCOPE),
        "pattern": settings["nm_ratio"] or ("dense" if settings["sparse_init"] == "dense" else results["sparsity"]),
        "seed": settings["seed"],
        "metric": metric.removeprefix("eval_"),
        "value": results[metric],
        "chance": data["eval"]["majority"] if metric == "eval_accuracy" else 0.0,
        **{name: value for name, value in results.items() if name not in ("epoch", "step")},
        "epoch": results["epoch"],
        "step": results["step"],
        "commit": run["code"]["commit"],
        **{name: value for name, value in settings.items() if name not in ("sparsity", "seed")},
    }


def tell_apart(table) -> None:
    """Put into each curve's name the settings in which its runs differ from others in the table; never average those."""
    for column, names in (("training", TRAINING), ("scope", SCOPE)):
        rows = table if column == "training" else table[table["sparse_init"] != "dense"]
        varying = [i for i, name in enumerate(names) if rows[column].map(lambda values, i=i: values[i]).nunique() > 1]
        for i in varying:
            table.loc[rows.index, "curve"] += [f", {names[i]} {values[i]}" for values in rows[column]]


def normalise(table):
    """Add each run's value as a fraction of the dense run that was trained like it: as it is, and above chance."""
    key = ["model", "task", "percentage", "seed", "training"]
    dense = table[table["sparse_init"] == "dense"].drop_duplicates(key).set_index(key)["value"]
    table = table.join(dense.rename("dense_value"), on=key)
    table["normalised"] = table["value"] / table["dense_value"]
    table["above_chance"] = (table["value"] - table["chance"]) / (table["dense_value"] - table["chance"])
    return table


def summarise(table):
    """Return one row per point of a curve: mean, standard deviation (n - 1) and number of seeds."""
    named = {
        "sparsity": ("sparsity", "mean"),
        "metric": ("metric", "first"),
        "mean": ("value", "mean"),
        "std": ("value", "std"),
        "seeds": ("seed", "nunique"),
        "runs": ("value", "count"),
        "normalised": ("normalised", "mean"),
        "normalised_std": ("normalised", "std"),
        "above_chance": ("above_chance", "mean"),
    }
    return table.groupby(GROUP, sort=False).agg(**named).reset_index().sort_values([*GROUP[:4], "sparsity"])


# --- writing ---------------------------------------------------------------------------------------------------------


def markdown(points, unfinished: list[str]) -> str:
    """Return the table of means. A missing dense run leaves its columns empty, an unfinished run is named."""
    head = "| model | task | data | transfer | pattern | metric | mean | std | seeds | of dense | above chance |"
    lines = [head, "|---|---|---:|---|---:|---|---:|---:|---:|---:|---:|"]
    for point in points.itertuples():
        pattern = f"{point.pattern:.3g}" if isinstance(point.pattern, float) else point.pattern
        cells = [point.model, point.task, f"{point.percentage:g} %", point.curve, pattern, point.metric]
        cells += [number(point.mean, "{:.4f}"), number(point.std, "{:.4f}"), str(point.seeds)]
        cells += [number(point.normalised, "{:.1%}"), number(point.above_chance, "{:.1%}")]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for point in points[points["runs"] > points["seeds"]].itertuples():
        lines.append(
            f"averaged although a seed occurs twice: {point.task}, {point.curve}, {point.pattern} ({point.runs} runs)"
        )
    lines += [f"not finished: {folder}" for folder in unfinished]
    return "\n".join(lines).rstrip() + "\n"


def number(value: float, form: str) -> str:
    """A number, or nothing where there is none (one seed has no deviation)."""
    return "" if value != value else form.format(value)


def draw(points, out: Path) -> None:
    """Draw one panel per task: normalised metric over sparsity, one line per curve and percentage, readable in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tasks = list(dict.fromkeys(points["task"]))
    figure, panels = plt.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 3.6), sharey=True, squeeze=False)
    styles = [(marker, dash) for dash in ("-", "--", ":") for marker in "os^Dv"]
    for panel, task in zip(panels[0], tasks):
        mine = points[(points["task"] == task) & (points["pattern"] != "dense")]
        panel.axhline(100, color="0.5", linewidth=1, linestyle="--", label="dense transfer")
        for (marker, dash), (key, line) in zip(styles, mine.groupby(["model", "percentage", "curve"], sort=False)):
            label = f"{key[2]}" + (f", {key[1]:g} % of data" if points["percentage"].nunique() > 1 else "")
            panel.errorbar(
                100 * line["sparsity"], 100 * line["normalised"], yerr=100 * line["normalised_std"].fillna(0),
                marker=marker, linestyle=dash, markersize=5, capsize=3, label=label,
            )  # fmt: skip
        metric = points.loc[points["task"] == task, "metric"].iloc[0].replace("_", " ")
        panel.set(title=f"{task} ({metric})", xlabel="sparsity, % of the weights in scope removed")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("% of dense")
    panels[0][0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    for suffix in ("png", "svg"):
        figure.savefig(out / f"curves.{suffix}", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
