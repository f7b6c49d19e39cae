"""The benchmark at its smallest: what it writes, that all ways compute the same, and the arithmetic of its numbers."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import junkdna as jd
from benchmark import measure, parts, reference
from benchmark.masking import Masking
from benchmark.processes import Worker
from junkdna.sparsity import masks
from junkdna.sparsity.patterns import NM, Unstructured, parse_sparsity

WAYS = ("reference", "modern fp32", "modern bf16", "fp32", "bf16")

pytestmark = pytest.mark.xdist_group("bench")  # the processes behind its report are started once

ROOT = Path(__file__).resolve().parents[2]


def bench(*argv, timeout=900):
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench.py"), *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )


def rows(found, part):
    return {(row["what"], row["way"]): row for row in found["rows"] if row["part"] == part}


def ways(found, part):
    return {row["way"] for row in found["rows"] if row["part"] == part}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A report of steps, memory, masks and the holding of them."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    done = bench("--smoke", "--threads", 1, "--parts", "step", "memory", "hold", "mask", "nm", "--out", out)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_the_report_says_what_was_measured_where(small):
    found, printed = small
    assert {
        "date",
        "code",
        "settings",
        "machine",
        "versions",
        "flop_formula",
        "facts",
        "rows",
        "checks",
    } <= found.keys()
    assert found["machine"]["device"] == "cpu" and found["versions"]["torch"] and found["code"]
    assert found["settings"]["model"] == "tiny" and found["settings"]["sparsity"] == "0.5"
    assert found["settings"]["out"] == "bench.json"  # no folder of the machine
    facts = found["facts"]["step, easy"]
    attention = {way: fact["attention"] for way, fact in facts.items()}
    assert attention == dict(zip(WAYS, ["eager", "sdpa", "sdpa", "packed", "packed"]))
    assert all(fact["threads"] == 1 and fact["masked_weights"] > 0 for fact in facts.values())
    assert len(found["rows"]) == sum(line.startswith("| ") for line in printed.splitlines()) - 1
    taken = found["facts"]["steps taken, easy"]
    assert taken.keys() == set(WAYS) and set(taken.values()) == {"operation by operation"}


def test_every_quantity_has_median_spread_and_ratio(small):
    found, _ = small
    assert ways(found, "step") == ways(found, "memory") == set(WAYS)
    assert ways(found, "mask") == ways(found, "nm") == {"reference", "product"}
    steps = rows(found, "step")
    timed = ("training step", "training step, processor time")
    for what in (*timed, "real tokens per second", "model-FLOP utilisation"):
        for way in WAYS:
            row = steps[what, way]
            assert row["n"] == len(row["values"]) == 2 and 0 < row["min"] <= row["median"] <= row["max"]
            assert (row["ratio"] is None) == (way == "reference")
            assert (row["modern_ratio"] is None) == (way not in ("fp32", "bf16"))
    for what in timed:
        ours, theirs = steps[what, "bf16"]["values"], steps[what, "modern bf16"]["values"]
        assert steps[what, "bf16"]["modern_ratio"]["max"] == max(a / b for a, b in zip(theirs, ours))
    times, speeds = steps["training step", "fp32"], steps["real tokens per second", "fp32"]
    assert times["ratio"]["min"] == pytest.approx(speeds["ratio"]["min"])  # the same batches both ways


def test_a_mask_costs_the_reference_four_bytes_a_weight_and_the_product_at_most_one(small):
    found, _ = small
    what = "held for the mask, per masked weight"
    assert rows(found, "memory")[what, "reference"]["median"] == 4
    assert rows(found, "memory")[what, "modern fp32"]["median"] == 8  # and the product of weight and mask
    assert 0 < rows(found, "memory")[what, "fp32"]["median"] <= 1


def test_holding_the_mask_takes_a_small_part_of_a_step_of_other_loops(small):
    found = rows(small[0], "hold")
    what = [f"holding the mask, of a step of {loop}" for loop in ("a plain loop", "the Trainer")]
    assert found.keys() == {(name, way) for name in what for way in ("fp32", "bf16")}
    assert all(row["n"] == 2 and row["min"] > 0 and row["median"] < 15 for row in found.values())


def test_both_ways_compute_the_same(small):
    checks = {(check["task"], check["what"].split(",")[0]): check for check in small[0]["checks"]}
    loss = next(check for check in checks.values() if check["what"].startswith("fp32: largest difference of a loss"))
    assert loss["ok"] is True and loss["limit"] == 1e-4 and 0 <= loss["value"] <= 1e-4
    held = [check for check in checks.values() if check["limit"] is not None]
    assert len(held) == 6 and all(check["ok"] for check in held)  # twice losses and outputs, two kinds of masks
    outputs = [check["value"] for check in held if "validation output" in check["what"]]
    assert len(outputs) == 2 and max(outputs) < 1e-6
    bf16 = next(check for check in checks.values() if check["what"].startswith("bf16: largest difference of a loss"))
    assert bf16["ok"] is None and bf16["value"] > loss["value"]


def test_grids_and_whole_commands(tmp_path):
    """In one precision: every way of every part is some processes more."""
    out = tmp_path / "bench.json"
    done = bench("--smoke", "--threads", 1, "--parts", "grid", "command", "--precisions", "bf16", "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert ways(found, "command") == {"reference", "modern bf16", "bf16"}
    assert ways(found, "grid") == {"reference", "modern bf16", "bf16", "bf16, 2 jobs"}
    gap = "from the end of a cell to the next one's first step"
    assert rows(found, "grid")[gap, "reference"]["n"] == 2 and rows(found, "grid")[gap, "bf16"]["n"] == 1
    assert rows(found, "grid")[gap, "bf16"]["ratio"]["median"] > 2
    cell = rows(found, "grid")["a cell of a grid of 2, 4 steps each", "bf16, 2 jobs"]
    used = rows(found, "grid")["model-FLOP utilisation of the grid, start-up and evaluation included", "bf16, 2 jobs"]
    assert cell["n"] == used["n"] == 1 and cell["median"] > 0.5 and 0 < used["median"] < 100
    assert used["ratio"]["median"] > 0
    spent = {
        way: row["median"] for (what, way), row in rows(found, "grid").items() if what == "the same, processor time"
    }
    assert spent.keys() == {"reference", "modern bf16", "bf16"} and 0 < spent["bf16"] < spent["modern bf16"]
    whole = rows(found, "command")["whole command, epochs: 1", "bf16"]
    assert whole["min"] > 1 and whole["ratio"]["n"] == whole["modern_ratio"]["n"] == 1
    assert rows(found, "command")["the same, processor time", "modern bf16"]["min"] > 1
    for way in ("modern bf16", "bf16"):
        assert 0 <= rows(found, "command")["accuracy (dropout on: other draws)", way]["median"] <= 1


# --- the two ways of making a mask -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", ["0.1", "0.5", "0.9"])
def test_the_plain_threshold_loses_its_own_weight_and_nothing_else(sparsity):
    weights = {"a": torch.randn(40, 30), "b": torch.randn(20, 50)}
    plain = reference.unstructured_masks(weights, float(sparsity))
    exact = masks.make_masks(weights, Unstructured(parse_sparsity(sparsity)))
    lost = sum(int((exact[name] & ~plain[name].bool()).sum()) for name in weights)
    added = sum(int((plain[name].bool() & ~exact[name]).sum()) for name in weights)
    assert added == 0 and 1 <= lost <= 2  # two where the count kept, rounded down, misses one
    assert all(mask.dtype == torch.float32 for mask in plain.values())


def test_the_plain_threshold_loses_all_ties():
    weights = {"a": torch.tensor([[4.0, 2.0, -2.0, 2.0, 1.0, 0.5]])}
    assert reference.unstructured_masks(weights, 0.5)["a"].tolist() == [[1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (2, 8), (7, 8)])
def test_groups_of_columns_are_the_same_both_ways(keep, of):
    weights = {"a": torch.randn(16, 32), "b": torch.randn(8, 64)}
    plain, exact = reference.nm_masks(weights, NM(keep, of)), masks.make_masks(weights, NM(keep, of))
    assert all(torch.equal(plain[name].bool(), exact[name]) for name in weights)


def test_a_wrong_mask_is_told_from_a_dropped_threshold(tmp_path):
    weight = torch.tensor([[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    made = Masking.__new__(Masking)
    made.scope = {"a": weight}

    def save(name, kept):
        np.savez(tmp_path / f"{name}.npz", a=np.packbits(np.array(kept, dtype=bool)))
        return str(tmp_path / f"{name}.npz")

    plain = save("plain", [1, 1, 1, 0, 0, 0, 0, 0])
    right, wrong = save("right", [1, 1, 1, 1, 0, 0, 0, 0]), save("wrong", [1, 1, 0, 1, 1, 1, 0, 0])
    assert made.compare("0.5", plain, right) == {"weights": 8, "different": 1, "unexplained": 0}
    assert made.compare("0.5", plain, wrong) == {"weights": 8, "different": 4, "unexplained": 2}  # 6 lost; 4 or 3 kept
    groups = save("groups", [1, 1, 0, 0, 1, 1, 0, 0]), save("others", [1, 1, 0, 0, 1, 0, 1, 0])
    assert made.compare("2:4", *groups) == {"weights": 8, "different": 2, "unexplained": 1}


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_ratios():
    assert measure.ratio([4.0, 6.0, 9.0], [2.0, 2.0, 3.0]) == {"median": 3.0, "min": 2.0, "max": 3.0, "n": 3}
    assert measure.ratio([2.0, 2.0], [4.0, 8.0], higher_is_better=True)["median"] == 3.0
    assert measure.ratio([4.0, 6.0, 9.0], [2.0])["median"] == 3.0
    assert measure.ratio([1.0, 9.0], [3.0, 1.0], paired=False)["median"] == 2.5
    assert measure.ratio([0.0], [1.0]) is None


def test_operations_of_a_step_by_hand():
    import transformers

    config = transformers.RobertaConfig(
        num_hidden_layers=2, hidden_size=8, num_attention_heads=2, intermediate_size=16, vocab_size=30
    )
    model = transformers.RobertaForSequenceClassification(config)
    encoder, head = 2 * (4 * 8 * 8 + 2 * 8 * 16), 8 * 8 + 8 * 2
    forward = 2 * encoder * (3 + 5) + 4 * 2 * 8 * (9 + 25) + 2 * head * 2
    assert measure.step_flops(model, [3, 5]) == 3 * forward


def test_bytes_that_hold_a_mask_are_counted_once():
    mask, weight = torch.ones(10, 10, dtype=torch.bool), torch.ones(5)
    assert measure.held({"a": mask, "again": [mask, mask.view(100)], "weight": weight}, known=[weight]) == 100


def test_batches_follow_the_order_of_training():
    from junkdna.training.recipe import order

    class Work:
        seed, batch_size = 41, 4

    found = parts.batches(Work, 10, 0, 4)
    assert [len(batch) for batch in found] == [4, 4, 2, 4]
    assert [*found[0], *found[1], *found[2]] == order(41, 0, 10).tolist()
    assert found[3] == order(41, 1, 10)[:4].tolist()
    assert parts.batches(Work, 10, 2, 2) == found[2:]


def test_a_baseline_can_be_left_out(tmp_path):
    out = tmp_path / "bench.json"
    asked = ("--parts", "step", "memory", "--precisions", "bf16", "--baselines", "modern")
    done = bench("--smoke", "--threads", 1, *asked, "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert ways(found, "step") == ways(found, "memory") == {"modern bf16", "bf16"}
    step = rows(found, "step")["training step", "bf16"]
    assert step["ratio"] is None and step["modern_ratio"]["n"] == 2
    assert all(check["ok"] is None and check["what"].startswith("bf16: ") for check in found["checks"])


@pytest.mark.parametrize(("baselines", "precisions", "base"), [
    (("reference", "modern"), ("bf16", "fp32"), "reference"),
    (("modern",), ("bf16", "fp32"), "modern fp32"),
    ((), ("bf16", "fp32"), "fp32"),
    (("modern",), ("bf16",), "modern bf16"),
])  # fmt: skip
def test_numbers_are_compared_with_those_of_fp32_where_there_is_one(baselines, precisions, base):
    asked = dict.fromkeys(
        field.name for field in dataclasses.fields(parts.Bench) if field.default is dataclasses.MISSING
    )
    assert parts.Bench(**asked | {"baselines": baselines, "precisions": precisions}).base == base


def test_every_way_comes_first_in_its_turn():
    orders = [parts.in_turn("abc", number) for number in range(3)]
    assert {order[0] for order in orders} == set("abc") and all(sorted(order) == list("abc") for order in orders)


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--steps", "0"], ["--steps 0", "1 or more"]),
        (["--steps", "many"], ["--steps", "many"]),
        (["--parts", "stepp"], ["--parts", "stepp", "command"]),
        (["--baselines", "plain"], ["--baselines", "plain", "reference", "modern"]),
        (["--num_jobs", "0"], ["--num_jobs 0", "1 or more"]),
        (["--sparsity", "1.5"], ["--sparsity 1.5", "[0, 1)"]),
        (["--sparsity", "0"], ["--sparsity 0"]),
        (["--nm_ratio", "9:8"], ["--nm_ratio 9:8"]),
        (["--matrix_size", "30"], ["--matrix_size 30", "multiple of the 8"]),
        (["--model", "no-such"], ["--model no-such", "roberta-base"]),
        (["--tasks", "cola"], ["--tasks cola", "--glue_dir", "easy"]),
        (["--glue_dir", ".", "--tasks", "colaa"], ["colaa", "did you mean cola"]),
        (["--device", "cuda"], ["--device cuda"]),
        (["--out", "no/such/folder.json"], ["--out no/such/folder.json"]),
    ],
)
def test_mistakes_are_one_line(argv, named, monkeypatch, capsys):
    import bench as script

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    try:
        code = script.main([*argv, "--smoke"])
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: ")
    assert all(word in lines[0] for word in named)


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_process_that_is_killed_is_said_in_its_own_words(asked_before):
    """Whether it ends while it answers or before it is asked."""
    code = "import os, sys\nprint('too much', file=sys.stderr, flush=True)\n"
    code += "sys.stdin.readline()\n" * asked_before + "os.kill(os.getpid(), 9)"
    with (
        pytest.raises(RuntimeError, match=r"(?s)signal 9, for want of memory.*'weigh'.*too much"),
        Worker(["-c", code], dict(os.environ)) as worker,
    ):
        if not asked_before:
            worker.process.wait()
        worker.ask("weigh", of="x" * 100_000)


def test_printed_commands_are_understood(monkeypatch, tmp_path):
    import bench as script

    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script.checks, "check_folder", lambda *args: None)  # the reader's own folder
    found = [
        shlex.split(line.split("scripts/bench.py", 1)[1], comments=True)
        for line in (ROOT / "docs" / "speed-log.md").read_text().replace("\\\n", " ").splitlines()
        if line.startswith("python scripts/bench.py")
    ]
    assert len(found) == 4
    for argv in found:
        assert script.parse(argv).tasks


def test_a_folder_counts_from_where_the_benchmark_is_called(monkeypatch, tmp_path):
    """Whole commands run elsewhere."""
    import bench as script

    monkeypatch.chdir(tmp_path)
    assert script.parse(["--glue_dir", "glue_data"]).glue_dir == str(tmp_path / "glue_data")


def test_the_command_for_a_gpu_means_what_it_says(tmp_path):
    """A python that prints its arguments stands in for the one that measures."""
    import bench as script

    (tmp_path / "python").write_text('#!/bin/sh\nshift\nfor word; do printf "%s " "$word"; done; echo\n')
    (tmp_path / "python").chmod(0o755)
    called = subprocess.run(
        ["bash", str(ROOT / "scripts" / "bench_gpu.sh")],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(tmp_path)},
    )
    base, grid, large = (script.parse(line.split()) for line in called.stdout.splitlines())
    assert (base.model, base.batch_size, base.steps, base.parts) == ("roberta-base", 32, 50, ["step", "memory"])
    assert (grid.model, grid.batch_size, grid.cells, grid.num_jobs, grid.parts) == ("roberta-base", 32, 9, 3, ["grid"])
    assert (large.model, large.batch_size, large.parts) == ("roberta-large", 16, ["step", "memory"])
    assert {made.device for made in (base, grid, large)} == {"cuda"} and base.precisions == ["fp32", "bf16"]
    called = subprocess.run(
        ["bash", str(ROOT / "scripts" / "bench_gpu.sh")],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(tmp_path), "SMOKE": "1", "DEVICE": "cpu"},
    )
    smallest = [script.parse(line.split()) for line in called.stdout.splitlines()]
    assert [made.parts for made in smallest] == [base.parts, grid.parts, large.parts]
    assert all((made.model, made.device, made.steps) == ("tiny", "cpu", 4) for made in smallest)


@pytest.mark.slow
def test_the_command_for_a_gpu_runs_end_to_end_on_a_cpu(tmp_path):
    """Its parts are run one by one above, and what it asks for is parsed."""
    called = subprocess.run(
        ["bash", str(ROOT / "scripts" / "bench_gpu.sh")],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ
        | {"SMOKE": "1", "DEVICE": "cpu", "OUT": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert called.returncode == 0, called.stderr
    base, grid, large = (json.loads((tmp_path / f"gpu-{name}.json").read_text()) for name in ("base", "grid", "large"))
    assert {row["part"] for row in base["rows"]} == {"step", "memory"}
    assert "fp32, 2 jobs" in ways(grid, "grid") and large["settings"]["batch_size"] == 16
    assert all(check["ok"] is not False for found in (base, grid, large) for check in found["checks"])


# --- pruning layer by layer ------------------------------------------------------------------------------------------


def test_both_ways_of_pruning_a_matrix_layer_by_layer(tmp_path):
    out = tmp_path / "bench.json"
    done = bench("--smoke", "--threads", 1, "--parts", "layerwise", "--nm_ratio", "2:4", "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert {row["part"] for row in found["rows"]} == {"layerwise"} and ways(found, "layerwise") == {
        "reference",
        "product",
    }
    for method in ("magnitude", "wanda", "sparsegpt"):
        for pattern in ("0.5", "2:4"):
            times = rows(found, "layerwise")[f"{method} {pattern}: pruning", "product"]
            assert times["n"] == 2 and times["ratio"]["median"] > 0
    checks = {check["what"].split(", of ")[0]: check for check in found["checks"]}
    assert len(checks) == 8 and all(check["ok"] for check in checks.values())
    exact = checks["sparsegpt 2:4: relative difference of the weights"]
    assert exact["value"] < 1e-5 and exact["task"] == "256 x 256"


def test_the_published_sparsegpt_loses_one_more_weight_per_block():
    from benchmark import layerwise
    from junkdna.sparsity import sparsegpt

    made = layerwise.Layer("product", "256", "0.5", "2:4")
    _, removed = layerwise.sparsegpt_steps(made.weight, made.hessian.clone(), 0.5, None)
    _, kept, _ = sparsegpt.prune(made.weight, made.hessian.clone(), jd.PerBlock(0.5))
    assert int((removed & kept).sum()) == 2 and not int((~removed & ~kept).sum())
    torch.set_grad_enabled(True)
