"""Kill a command at its n-th file operation, repeat it, and look at what is there; for every n.

A process of its own: it imports torch once and forks for every kill, so that one costs milliseconds. Prints JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import torch
import toy_family

from junkdna.runs import main as runs
from junkdna.runs import provenance, records

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.link"}
FILES = ("all_results.json", "mask.safetensors", "model.safetensors")
ALLOWED = {*FILES, "run.json"}
CELLS = ("dense", "0.3", "0.6")


def command(out: Path) -> list[str]:
    flags = ["--model_name_or_path", "none", "--sparsity", "0.3", "0.6", "--with_dense", "--rounds", "2"]
    return [*flags, "--save_model", "--output_dir", str(out / "{pattern}")]


def forked(argv: list[str], out: Path, kill_at: int | None = None, log: Path | None = None) -> int:
    """Run a command in a child; return its exit code, or -9 if it was killed. ``log`` gets the operations' names."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        seen: list[str] = []

        def count(name: str) -> None:
            seen.append(name)
            if len(seen) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, arguments: tuple) -> None:
            if (
                event in EVENTS and any(isinstance(a, (str, bytes)) and concerns(os.fsdecode(a)) for a in arguments)
            ) or (event in ("os.remove", "os.rmdir") and arguments[1] != -1):
                count(event)

        def concerns(path: str) -> bool:
            return path.startswith(str(out))

        fsync = os.fsync

        def counted(handle):
            count("fsync")
            fsync(handle)

        os.fsync = counted
        sys.addaudithook(hook)
        code = runs.main(toy_family.FAMILY, argv)
        if log:
            log.write_text(json.dumps(seen))
    finally:
        os._exit(code)


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def look(out: Path, whole: dict, when: str) -> list[str]:
    """What is wrong with a grid that was just killed: a folder that counts as finished and is not whole."""
    return [f"{when}: {c}" for c in CELLS if records.finished(out / c) is not None and content(out / c) != whole[c]]


def main(scratch: Path, stride: int, pairs: int) -> dict:
    provenance.code_version = lambda: {"version": "test", "commit": None, "changed": None}
    torch.set_num_threads(1)
    done, out = scratch / "done", scratch / "out"
    assert forked(command(done), done) == 0
    whole = {cell: content(done / cell) for cell in CELLS}
    assert [len(whole[cell]) for cell in CELLS] == [2, 3, 3]
    tried, wrong, kinds = Counter(), [], Counter()
    draw = random.Random(0)
    overwrite = ["--overwrite_output_dir"]
    for scenario, first in (("new", []), ("overwriting", overwrite)):
        log = scratch / "log"
        prepare(out, done, scenario)
        assert forked([*command(out), *first], out, log=log) == 0
        operations = json.loads(log.read_text())
        kinds.update(operations)
        points = [[n] for n in range(1, len(operations) + 1, stride)]
        points += [[draw.randint(1, len(operations)), draw.randint(1, 60)] for _ in range(pairs)]
        for point in points:
            prepare(out, done, scenario)
            name = f"{scenario} {point}"
            code = forked([*command(out), *first], out, point[0])
            if code != -9:
                wrong.append(f"{name}: not killed, {code}")
            wrong += look(out, whole, name)
            for again in point[1:]:
                forked([*command(out), *draw.choice([[], first])], out, again)
                wrong += look(out, whole, f"{name} again")
            code = forked(command(out), out)
            if code != 0:
                wrong.append(f"{name}: the repeat ends with {code}")
            for cell in CELLS:
                if records.finished(out / cell) is None or content(out / cell) != whole[cell]:
                    wrong.append(f"{name}: {cell} is not what it should be")
                left = {path.name for path in (out / cell).iterdir()} - ALLOWED
                if left:
                    wrong.append(f"{name}: {cell} holds {sorted(left)}")
            tried[scenario] += 1
            tried["pairs"] += len(point) - 1
    return {"tried": tried, "operations": kinds, "wrong": wrong}


def prepare(out: Path, done: Path, scenario: str) -> None:
    shutil.rmtree(out, ignore_errors=True)
    if scenario == "overwriting":
        shutil.copytree(done, out)
    else:
        out.mkdir()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
