"""Ctrl-C and SIGTERM at any moment: within seconds, one line, the signal's exit code, and nothing reached is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

import Glue_prune_oneshot
from conftest import SCRIPT
from junkdna.runs import checkpoints, lock, records
from warm import Warm

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
RESULTS = ("all_results.json", "mask.safetensors")


@pytest.fixture
def words(tiny_model, csv_task):
    return ["--model_name_or_path", tiny_model, *csv_task.flags, "--learning_rate", "5e-3", "--sparsity", "0.5",
            "--freeze_weights", "--num_train_epochs", "12", "--max_length", "32"]  # fmt: skip


def slowly(pause, evaluation, argv):
    """The command with a pause before every step and every evaluation, of which it tells."""
    from junkdna.training import finetune, predict

    step, evaluator = finetune.FineTuning.train_step, predict.evaluator

    def slow_step(self, examples):
        print("step", flush=True)
        time.sleep(pause)
        return step(self, examples)

    def slow_evaluator(*given):
        evaluate = evaluator(*given)

        def slow(model):
            print("evaluation", flush=True)
            time.sleep(evaluation)
            return evaluate(model)

        return slow

    finetune.FineTuning.train_step = slow_step
    if evaluation:
        predict.evaluator = slow_evaluator
    return Glue_prune_oneshot.main(argv)


SLOWLY = """
import sys
sys.path[:0] = {paths!r}
import test_signals
sys.exit(test_signals.slowly(0.05, 0, sys.argv[1:]))
"""


def start(argv, folder, pause=0.05, evaluation=0):
    return Warm(partial(slowly, pause, evaluation), argv, folder)


def wait_for(process, word, times=1):
    end = time.monotonic() + 120
    while sum(line.startswith(word) for line in process.said().splitlines()) < times:
        assert process.poll() is None and time.monotonic() < end, process.wait()
        time.sleep(0.01)


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("where", ["step", "evaluation"])
def test_a_signal_ends_with_a_checkpoint_of_the_step_reached(where, number, command, words, tmp_path):
    process = start([*words, "--output_dir", tmp_path / "run"], tmp_path, 0.01, 60 if where == "evaluation" else 0)
    wait_for(process, where, 3 if where == "step" else 1)
    begun = time.monotonic()
    process.send_signal(number)
    done = process.wait(30)
    assert done.returncode == CODES[number] and time.monotonic() - begun < 10
    (path,) = (tmp_path / "run").glob("checkpoint-*")
    reached = checkpoints.step_of(path)
    assert reached == 8 if where == "evaluation" else 3 <= reached < 90
    word = "interrupted" if number == signal.SIGINT else "terminated"
    kept = f"finished runs and a checkpoint of step {reached} are kept"
    assert done.stderr.splitlines() == [f"{word}; {kept}; the same command continues from there"]
    assert not (tmp_path / "run" / lock.LOCK).exists()

    code, out, err = command([*words, "--output_dir", tmp_path / "run"])
    assert code == 0 and f"resumed   from the checkpoint of step {reached}" in out, err
    assert command([*words, "--output_dir", tmp_path / "whole"])[0] == 0
    for name in RESULTS:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.skipif(shutil.which("timeout") is None, reason="needs coreutils")
def test_timeout_signals_the_process_and_its_group(words, tmp_path):
    """The same signal comes twice at once; that is not the second one that ends the process on the spot.

    What ``timeout`` does when the time is over it also does with a signal that it gets itself.
    """
    code = SLOWLY.format(paths=[path for path in sys.path if path])
    argv = ["timeout", "--preserve-status", "600", sys.executable, "-c", code, *words, "--output_dir", tmp_path / "run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(list(map(str, argv)), env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes)
    while not (line := process.stdout.readline()).startswith("step"):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and list((tmp_path / "run").glob("checkpoint-*")), err


def test_a_second_signal_ends_at_once(words, tmp_path):
    process = start([*words, "--output_dir", tmp_path / "run"], tmp_path, pause=30)
    wait_for(process, "step")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30).returncode == 143 and time.monotonic() - begun < 2


def signal_while_it_starts(number, words, tmp_path, moments) -> int:
    """Send a signal at some moments after the start, in tenths of a second; return how many were tried."""
    tried = 0
    for tenths in moments:
        argv = [sys.executable, str(SCRIPT), *map(str, words), "--num_train_epochs", "1000", "--output_dir",
                str(tmp_path / "run")]  # fmt: skip
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(tenths / 10)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode in (CODES[number], -number), err
        if tenths > 1:  # before, Python itself may not have come to the program's first line
            assert "Traceback" not in err and len(err.splitlines()) <= 1, err
        tried += 1
    return tried


@pytest.mark.parametrize("number", CODES)
def test_a_signal_during_start_up_gives_no_traceback(number, words, tmp_path):
    assert signal_while_it_starts(number, words, tmp_path, (2, 8, 18)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_signal_at_any_moment_of_start_up_gives_no_traceback(number, words, tmp_path):
    assert signal_while_it_starts(number, words, tmp_path, range(1, 41)) == 40


INTERRUPTED = """
import atexit, os, sys

class Interrupt:
    def find_spec(self, name, *rest):
        if name == "torch.distributed":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Interrupt())
atexit.register(lambda: print("PyTorch is", "there" if "torch" in sys.modules else "not there"))
import Glue_prune_oneshot
sys.exit(Glue_prune_oneshot.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_pytorch_is_imported_waits_until_it_is_there(number, words, tmp_path):
    """Its modules in C++ call Python while they are set up: what is raised there ends in ``terminate``."""
    code = INTERRUPTED.format(number=int(number))
    argv = [sys.executable, "-c", code, *map(str, words), "--output_dir", str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parent)}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == CODES[number] and "PyTorch is there" in done.stdout, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_of_two_processes_the_one_that_is_done_says_who_runs_the_rest(command, words, tmp_path):
    grid = [*words, "--num_train_epochs", "1", "--seed", "1", "2", "--output_dir", tmp_path / "{seed}"]
    with lock.held(tmp_path / "1"):
        code, out, _ = command(grid)
    assert code == 0 and "1 done, 0 were done before, 0 failed, 1 being run elsewhere" in out
    assert f"running elsewhere: {tmp_path / '1'}: process {os.getpid()} on " in out
    assert command(grid)[0] == 0 and records.finished(tmp_path / "1")
    assert json.loads((tmp_path / "2/run.json").read_text())["status"] == "done"
