"""A grid in several jobs: who runs what, what each job is told, and that the results are those of one process.

What is submitted to a cluster is seen through stand-ins for Slurm's programs; a real Slurm is in ``slurm/``.
"""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import conftest
import Glue_prune_oneshot
import warm
from conftest import SCRIPT
from Glue_prune_oneshot import FAMILY
from junkdna.errors import UserError
from junkdna.families.glue import tasks as glue
from junkdna.runs.grid import DONE, Outcome, is_done_since
from junkdna.runs.jobs import flags
from junkdna.runs.jobs import run as jobs
from junkdna.runs.jobs import submit as launchers
from junkdna.runs.jobs.job import MOST_IN_VAIN, JobSpec
from junkdna.runs.jobs.schedule import deal
from junkdna.runs.records import started
from junkdna.runs.shared import Shared

HUB = [
    "--model_name_or_path",
    "roberta-base",
    "--output_dir",
    "{task_name}/{pattern}/{validation_split_percentage}/{seed}",
]


def parse(*more, base=HUB):
    return conftest.parse([*base, *more])


# --- dealing ---------------------------------------------------------------------------------------------------------


def test_work_is_the_training_examples_seen(tiny_model, csv_task):
    def of(*more, base=HUB):
        (cell,) = parse(*more, base=base).cells
        return FAMILY.work(cell, Shared())

    assert of("--task_name", "cola") == 3 * 8551
    assert of("--task_name", "sst2", "--train_percentage", "10", "--num_train_epochs", 1) == 6735
    assert of("--task_name", "rte", "--max_train_samples", "100", "--num_train_epochs", 2) == 200
    assert of("--task_name", "mnli", "--max_train_steps", 50, "--gradient_accumulation_steps", 2) == 50 * 8 * 2
    own = ["--model_name_or_path", tiny_model, *csv_task.flags]
    assert of("--train_percentage", "50", base=own) == 3 * 32
    assert set(glue.TASKS) == {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"}
    assert all(task.train_rows > 600 for task in glue.TASKS.values())


def test_the_longest_is_dealt_first_and_each_to_the_idlest_job():
    works, alike = [1, 7, 2, 5, 4, 6, 3], ["cola"] * 7
    shares = deal(works, alike, 3)
    assert [[works[i] for i in share] for share in shares] == [[7, 2, 1], [6, 3], [5, 4]]
    assert sorted(i for share in shares for i in share) == list(range(7)) and deal(works, alike, 3) == shares
    assert deal([5] * 7, alike, 7) == [[i] for i in range(7)]


def test_a_job_keeps_a_task_s_runs_together():
    asked = parse("--task_name", "sst2", "qnli", "rte", "--train_percentage", 10, 100, "--seed", 1, 2)
    works = [FAMILY.work(cell, Shared()) for cell in asked.cells]
    shares = deal(works, [FAMILY.loads(cell) for cell in asked.cells], 2)
    loads = [sum(works[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= min(works) and sum(map(len, shares)) == 12
    for share in shares:
        tasks = [asked.cells[i].task_name for i in share]
        assert tasks == sorted(tasks, key=["qnli", "sst2", "rte"].index)  # the most work first
        for task in set(tasks):
            of_task = [works[i] for i in share if asked.cells[i].task_name == task]
            assert of_task == sorted(of_task, reverse=True)


def test_cells_that_are_done_are_not_dealt(tiny_model, csv_task, command, tmp_path):
    base = ["--model_name_or_path", tiny_model, *csv_task.flags, "--max_train_steps", 1, "--output_dir"]
    assert command([*base, tmp_path / "{seed}", "--seed", 1])[0] == 0
    code, out, _ = command([*base, tmp_path / "{seed}", "--seed", 1, 2, 3, "--num_jobs", 5, "--dry_run"])
    assert code == 0 and out.count("to run") == 2 and out.count("done    ") == 1
    dealt = [line.split() for line in out.splitlines() if line.startswith(("job", " "))]
    assert [line[0] for line in dealt] == ["job", f"{tmp_path}/2", "job", f"{tmp_path}/3"] and not (
        tmp_path / "2"
    ).exists()
    asked = parse(tmp_path / "{seed}", "--seed", 1, 2, 3, base=map(str, [*base[:-1], "--num_jobs", 5, "--output_dir"]))
    assert jobs.deal_cells(FAMILY, replace(asked, overwrite_output_dir=True), Shared()) == [(c,) for c in asked.cells]
    assert (
        jobs.deal_cells(FAMILY, replace(asked, cells=asked.cells[:2]), Shared()) == []
    )  # one is left: this process runs it


def test_without_being_asked_there_is_one_job_a_gpu(monkeypatch):
    asked = parse("--task_name", "cola", "--seed", 1, 2, 3)
    for visible, count in (
        ("", 0),
        ("3", 0),
        ("0,1", 2),
        ("GPU-a,GPU-b,GPU-c,GPU-d", 3),
        ("-1", 0),
        ("0,-1,1", 0),
        ("NoDevFiles", 0),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert len(jobs.deal_cells(FAMILY, asked, Shared())) == count, visible
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("RANK", "0")  # torchrun with one process
    assert jobs.deal_cells(FAMILY, asked, Shared()) == []


def test_gpus_are_counted_where_nothing_hides_them(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launchers.gpus() == []
    program(tmp_path / "nvidia-smi", "echo 'GPU 0: H (UUID: GPU-1)'; echo '  MIG 1g'; echo 'GPU 1: H (UUID: GPU-2)'")
    assert launchers.gpus() == ["0", "1"]
    parts = "echo '  MIG 1g.18gb Device 0: (UUID: MIG-a)'; echo '  MIG 1g.18gb Device 1: (UUID: MIG-b)'"
    program(tmp_path / "nvidia-smi", f"echo 'GPU 0: H (UUID: GPU-1)'; {parts}; echo 'GPU 1: H (UUID: GPU-2)'")
    assert launchers.gpus() == ["MIG-a", "MIG-b", "1"]


def test_local_jobs_get_a_gpu_and_a_part_of_the_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-b")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16))
    told = launchers.environments(3)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in told] == ["4", "GPU-b", "4"]
    assert {env["OMP_NUM_THREADS"] for env in told} == {"5"}
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    assert launchers.environments(1) == [{"CUDA_VISIBLE_DEVICES": None, "OMP_NUM_THREADS": "2"}]


# --- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES = [
    ("unknown launcher", ["--launcher", "slrum"],
     "--launcher slrum: unknown (did you mean slurm?); allowed: local slurm"),
    ("no jobs", ["--num_jobs", "0"], "--num_jobs 0: must be a whole number >= 1"),
    ("slurm's flag without slurm", ["--slurm_mem", "8G"], "--slurm_mem: needs --launcher slurm"),
    ("time", ["--launcher", "slurm", "--slurm_time", "4h"],
     "--slurm_time 4h: must be minutes, HH:MM:SS, D-HH or D-HH:MM"),
    ("no time", ["--launcher", "slurm", "--slurm_time", "0"], "--slurm_time 0: must be minutes"),
    ("option", ["--launcher", "slurm", "--slurm_additional", "=x"], "--slurm_additional =x: must be KEY=VALUE"),
    ("no slurm", ["--launcher", "slurm"], "--launcher slurm: sbatch is not on the PATH"),
    ("logs in a run", ["--num_jobs", "2", "--jobs_dir", "out/1/logs"],
     "--jobs_dir out/1/logs: lies in out/1, a run's folder"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "said"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_mistakes_are_one_line(more, said, command, tiny_model, csv_task, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    base = ["--model_name_or_path", tiny_model, *csv_task.flags, "--seed", "1", "2", "--output_dir", "out/{seed}"]
    code, out, err = command([*base, *more])
    assert code == 2 and not out and err.count("\n") == 1 and said in err and not os.listdir(tmp_path)


def test_jobs_and_processes_do_not_mix(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError) as caught:
        parse("--task_name", "cola", "--launcher", "local", "--num_jobs", 2)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["--launcher local", "--num_jobs 2"]


def test_a_missing_submitit_is_named(monkeypatch):
    asked = parse("--task_name", "cola", "--seed", 1, 2, "--num_jobs", 2)
    jobs.preflight(asked)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--num_jobs 2: the package submitit is not installed; pip install submitit"):
        jobs.preflight(asked)
    jobs.preflight(replace(asked, num_jobs=1))


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("4:00:00", 240), ("1-12", 2160), ("2-00:30", 2910), ("1-00:00:01", 1441), ("10:30", 11)],
)
def test_times_are_understood_as_sbatch_does(text, minutes):
    assert flags.slurm_minutes(text) == minutes


# --- what a job does -------------------------------------------------------------------------------------------------


def test_a_share_survives_its_journey_and_gives_up_when_cut_off_in_vain():
    asked = parse("--task_name", "cola", "--seed", 1, 2, "--num_jobs", 2)
    share = pickle.loads(pickle.dumps(JobSpec(asked, FAMILY.entry, "/", {}, {})))
    assert share.request == asked
    for _ in range(MOST_IN_VAIN - 1):
        assert share.checkpoint().function is share
    share.reached = (0, -1)  # as if there were a new checkpoint since
    assert share.checkpoint().function is share and share.in_vain == 0
    share.in_vain = MOST_IN_VAIN - 1
    with pytest.raises(SystemExit):
        share.checkpoint()


def test_a_job_s_environment_is_set_before_torch_is_there(tiny_model, csv_task, tmp_path):
    base = ["--model_name_or_path", tiny_model, *csv_task.flags, "--max_train_steps", "1"]
    asked = parse("--output_dir", tmp_path / "run", base=base)
    told = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "3", "UNWANTED": None}
    (tmp_path / "share").write_bytes(pickle.dumps(JobSpec(asked, FAMILY.entry, str(tmp_path), told, {})))
    code = (
        "import os, pickle, sys; share = pickle.load(open('share', 'rb')); assert 'torch' not in sys.modules; "
        "assert [one.state for one in share()] == ['done']; "
        "print(os.environ['OMP_NUM_THREADS'], 'UNWANTED' in os.environ)"
    )
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1", "UNWANTED": "x"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "3 False", done.stderr


def test_a_job_that_replaces_runs_does_not_replace_its_own(command, tiny_model, csv_task, tmp_path, monkeypatch):
    base = ["--model_name_or_path", tiny_model, *csv_task.flags, "--max_train_steps", "1", "--overwrite_output_dir"]
    argv = [*base, "--seed", "1", "2", "--output_dir", str(tmp_path / "{seed}")]
    assert command(argv)[0] == 0
    asked = conftest.parse(argv)
    before = {cell.output_dir: started(cell) for cell in asked.cells}
    monkeypatch.chdir(tmp_path)
    share = JobSpec(asked, FAMILY.entry, str(tmp_path), {}, before)
    assert not any(map(share.is_done, asked.cells))
    one = replace(share, request=replace(asked, cells=asked.cells[:1]))
    assert one() == [Outcome(asked.cells[0].output_dir, DONE)]
    first = started(asked.cells[0])
    assert share() == [Outcome(asked.cells[1].output_dir, DONE)] and all(map(share.is_done, asked.cells))
    assert started(asked.cells[0]) == first and is_done_since(asked.cells[1], before)


# --- on this machine -------------------------------------------------------------------------------------------------


def argv(tiny_model, csv_task, *more):
    return [
        *("--model_name_or_path", tiny_model, *csv_task.flags, "--learning_rate", "5e-3", "--noembed"),
        *("--freeze_weights", "--per_device_train_batch_size", "16", "--with_dense", "--seed", "1", "2"),
        *("--output_dir", "runs/{pattern}/{seed}"),
        *map(str, more),
    ]  # fmt: skip


def files(folder):
    names = ("all_results.json", "mask.safetensors")
    return {str(f.relative_to(folder)): f.read_bytes() for name in names for f in sorted(folder.rglob(name))}


def start(argv, folder):
    """Start the command and leave it running; returns the process and its jobs' [(process, log)]."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *argv],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
        start_new_session=True,
    )
    lines = [process.stdout.readline() for _ in range(2)]
    found = [re.fullmatch(r"job \d \(process (\d+)\): \d+ runs, log (.*)\n", line).groups() for line in lines]
    return process, [(int(number), Path(log)) for number, log in found]


def says(log, text):
    return log.exists() and text in log.read_text()


def until(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_jobs_equal_one_process_and_a_failure_stays_alone(tiny_model, csv_task, tmp_path):
    grid_ = argv(tiny_model, csv_task, "--sparsity", "0.5", "0.00001", "--num_train_epochs", 1)
    said = {}
    for name, more in (("one", []), ("two", ["--num_jobs", 2, "--jobs_dir", "logs"])):
        (tmp_path / name).mkdir()
        done = warm.run(Glue_prune_oneshot.main, [*grid_, *more], tmp_path / name)
        assert done.returncode == 1, done.stderr
        said[name] = done.stdout
    assert len(files(tmp_path / "one")) == 4 + 2 and files(tmp_path / "one") == files(tmp_path / "two")
    assert all("4 done, 0 were done before, 2 failed" in out for out in said.values())
    failed = [line for line in said["two"].splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 and all("removes no weight" in line for line in failed)
    logs = [line.split("; log ")[1] for line in failed]
    assert all(
        log.startswith(str(tmp_path / "two" / "logs")) and "removes no weight" in Path(log).read_text() for log in logs
    )


def test_a_killed_job_is_missed_and_the_command_repeated_finishes(tiny_model, csv_task, tmp_path):
    grid_ = argv(tiny_model, csv_task, "--sparsity", "0.5", "0.7", "--num_train_epochs", 20)
    process, found = start([*grid_, "--num_jobs", "2"], tmp_path)
    until(lambda: says(found[0][1], "[2/3]"))
    (worker,) = psutil.Process(found[0][0]).children()
    worker.kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "job 1 (process" in out and "was cut off; see" in out, err
    missing = re.findall(r"not finished: (\S+); log (\S+)", out)
    assert 1 <= len(missing) <= 2 and {Path(log) for _, log in missing} == {found[0][1]}
    assert f"{6 - len(missing)} done, 0 were done before, 0 failed, {len(missing)} not finished" in out
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("all_results.json")}
    assert len(kept) == 6 - len(missing)
    done = warm.run(Glue_prune_oneshot.main, grid_, tmp_path)
    assert f"{len(missing)} done, {6 - len(missing)} were done before, 0 failed" in done.stdout
    assert len(files(tmp_path)) == 6 + 4 and all(path.stat().st_mtime_ns == then for path, then in kept.items())


def works(process) -> bool:
    """Whether a process still runs; one that has ended may wait a moment to be collected by the system's first one."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_job_behind(how, tiny_model, csv_task, tmp_path):
    grid_ = argv(tiny_model, csv_task, "--sparsity", "0.5", "--num_train_epochs", 1000, "--num_jobs", 2)
    process, found = start(grid_, tmp_path)
    until(lambda: all(says(log, "epoch") for _, log in found))
    family = [child for number, _ in found for child in (psutil.Process(number), *psutil.Process(number).children())]
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + how and len(family) == 4 and not any(map(works, family))
    assert err.splitlines() == [
        "the jobs were stopped; repeat the command to finish what is missing",
        f"{'interrupted' if how == signal.SIGINT else 'terminated'}; finished runs are kept",
    ]
    steps = [
        re.search(r"a checkpoint of step (\S+) are kept; the same command continues", log.read_text())
        for _, log in found
    ]
    assert all(steps) and len(list(tmp_path.rglob("checkpoint-*"))) == 2  # what the two were at


# --- what is submitted to a cluster ----------------------------------------------------------------------------------


def program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins for Slurm's programs: a queue that takes every job and loses it; returns where the batch file goes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "sbatch", f"cp $1 {tmp_path}/batch; echo Submitted batch job 77")
    program(folder / "srun", "exit 1")
    program(folder / "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(launchers, "ASK_EVERY", 0)
    monkeypatch.setattr(jobs, "LOOK_EVERY", 0.01)
    monkeypatch.chdir(tmp_path)
    return folder


def test_slurm_s_options_reach_sbatch(cluster, command, tiny_model, csv_task, tmp_path):
    given = ["--slurm_partition", "gpu", "--slurm_time", "1-00", "--slurm_gres", "gpu:1", "--slurm_mem", "16G",
             "--slurm_cpus_per_task", "4", "--slurm_account", "me", "--slurm_qos", "low", "--slurm_constraint", "a100",
             "--slurm_setup", "module load cuda", "echo two", "--slurm_setup", "echo three",
             "--slurm_additional", "nodelist=n[1-3]", "exclusive"]  # fmt: skip
    code, out, err = command(argv(tiny_model, csv_task, "--launcher", "slurm", "--num_jobs", 2, *given))
    assert code == 1 and not err and "0 done, 0 were done before, 0 failed, 4 not finished" in out
    assert out.startswith(f"job 77_0: 2 runs, log {tmp_path}/runs/.jobs/") and "job 77_1: 2 runs" in out
    batch = (tmp_path / "batch").read_text()
    for line in ("partition=gpu", "time=1440", "gres=gpu:1", "mem=16G", "cpus-per-task=4", "account=me", "qos=low",
                 "constraint=a100", "nodelist='n[1-3]'", "exclusive", "requeue", "array=0-1%2"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in batch, line
    assert "\nmodule load cuda\necho two\necho three\n" in batch and "--cpus-per-task=4 env PYTHONPATH=" in batch
    assert f"PYTHONPATH={SCRIPT.parents[1]}" in batch


def test_sbatch_s_refusal_is_one_line(cluster, command, tiny_model, csv_task):
    program(cluster / "sbatch", "echo 'sbatch: error: invalid partition specified: no' >&2; exit 1")
    code, out, err = command(argv(tiny_model, csv_task, "--launcher", "slurm", "--slurm_partition", "no"))
    assert code == 2 and not out
    assert err == "error: --launcher slurm: sbatch: error: invalid partition specified: no\n"


def test_the_queue_is_read_as_squeue_prints_it(cluster):
    class Handle:
        def __init__(self, job_id):
            self.job_id, self.paths = job_id, self
            self.result_pickle = cluster / job_id

    queue = launchers.Queue([launchers.Job(name, Handle(name), ()) for name in ("77_0", "77_1")])
    program(cluster / "squeue", "echo 77_0 RUNNING; echo 77_1 PENDING")
    assert queue.states() == ["running", "pending"]
    program(cluster / "squeue", "echo 77_1 RUNNING")
    assert queue.states() == ["running", "running"]  # a job that is being queued again may be missing once
    assert queue.states() == ["running"]
    program(cluster / "squeue", "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    assert queue.states() == queue.states() == ["running"]  # no answer is not the end
    (cluster / "77_1").touch()
    assert queue.states() == []
