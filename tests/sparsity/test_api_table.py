"""Optimizer x kind x dtype x loop: held weights are exact after 20 steps with accumulation, decay and a resume."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import api_table as table
import pytest

pytestmark = pytest.mark.xdist_group("api table")  # its pair of processes is started once

WORKER = Path(table.__file__)
ROOT = WORKER.parents[2]
EACH = len(table.OPTIMIZERS) * len(table.KINDS) * len(table.DTYPES)


def tally(found: dict[str, str], capsys) -> dict[str, list[str]]:
    """Sort the combinations by outcome, and print how many there are of each."""
    sorted_ = {word: [name for name, told in found.items() if told.startswith(word)] for word in
               ("held", "refused", "impossible", "BROKEN")}  # fmt: skip
    with capsys.disabled():
        counts = ", ".join(f"{len(names)} {word}" for word, names in sorted_.items())
        print(f"\n{', '.join(dict.fromkeys(name.split('/')[0] for name in found))}: {len(found)} tried, {counts}")
    assert not sorted_["BROKEN"], "\n".join(f"{name}: {found[name]}" for name in sorted_["BROKEN"])
    return sorted_


def test_a_plain_loop_holds_in_every_optimizer(capsys):
    found = table.outcomes(table.plain)
    assert len(found) == EACH == 36
    assert len(tally(found, capsys)["held"]) == EACH, found


def test_the_trainer_holds_in_every_optimizer_that_it_can_use(capsys):
    found = table.outcomes(table.trainer)
    assert len(found) == EACH
    sorted_ = tally(found, capsys)
    assert len(sorted_["held"]) == 30 and len(sorted_["refused"]) == 6, found
    assert {found[name] for name in sorted_["refused"]} == {
        "refused: optimizer LBFGS: needs a closure, which the Trainer does not give it"
    }


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What every one of two processes found with accelerate, DDP and FSDP2."""
    folder = tmp_path_factory.mktemp("table")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TABLE_FOLDER": str(folder), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder / f"{rank}.json")],
            env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(("loop", "held"), [("accelerated", 36), ("ddp", 36), ("fsdp2", 24)])
def test_two_processes_hold_in_every_optimizer(loop, held, two_processes, capsys):
    first, second = ({n: told for n, told in found.items() if n.startswith(loop + "/")} for found in two_processes)
    assert len(first) == EACH and first == second  # to the bit
    sorted_ = tally(first, capsys)
    assert len(sorted_["held"]) == held and len(sorted_["impossible"]) == EACH - held, first
    assert {name.split("/")[1] for name in sorted_["impossible"]} <= {
        "Adafactor",
        "LBFGS",
    }  # torch has no such DTensors


def test_what_else_takes_two_processes(two_processes):
    for found in (processes["others"] for processes in two_processes):
        assert [told.startswith("MaskBroken: ") for told in found["divided first"]] == [True, True], found
        assert found["evaluated between"] == ["held", "held"], found
        for held_first in found["flattened"]:
            assert all("FSDP1" in told and "use fully_shard (FSDP2)" in told for told in held_first), found
        assert found["same masks"] == ["nothing"] * 2
        assert found["other masks"] == ["UserError: mask: the processes hold different masks"] * 2
