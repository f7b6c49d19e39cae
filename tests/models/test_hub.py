"""The command against a stand-in for the Hub: models and tasks by name, the cache without a network, and uploads.

Commands run in other processes than the tests, as a process decides at its start whether the Hub can be reached.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import SCRIPT, labelled_sentences, run_command, save_tiny_model
from hub_server import TOKEN, Hub, glue_files
from junkdna import UserError
from junkdna.models.loading import loading_errors

pytestmark = pytest.mark.xdist_group("hub")  # its first run is made once

MODEL = "tests/roberta-tiny"
RUN = ["--model_name_or_path", MODEL, "--task_name", "cola", "--num_train_epochs", "1", "--output_dir", "out"]
CLOSED = "http://127.0.0.1:9"
"""Nobody listens there (the port of a service that no machine offers any more)."""


@pytest.fixture(scope="module")
def hub(tiny_model, tmp_path_factory):
    """A Hub with two models, and with GLUE's CoLA."""
    splits = {"train": (40, 0), "validation": (20, 1), "test": (20, 2)}
    rows = {
        split: [
            {"sentence": text, "label": label if split != "test" else -1, "idx": i}
            for i, (text, label) in enumerate(labelled_sentences(count, seed))
        ]
        for split, (count, seed) in splits.items()
    }
    three = tmp_path_factory.mktemp("models") / "three"
    save_tiny_model(three, head=3)
    with Hub() as hub:
        hub.add_model(MODEL, tiny_model)
        hub.add_model("tests/three-labels", three)
        hub.add("datasets/nyu-mll/glue", glue_files({"cola": rows}, {"cola": ["unacceptable", "acceptable"]}))
        yield hub


@pytest.fixture(scope="module")
def first_run(hub, tmp_path_factory):
    """A run by names alone that filled a cache and was uploaded: (its folder, the cache, the process)."""
    folder, cache = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("cache")
    done = ask([*RUN, "--push_to_hub"], folder, hub.endpoint, cache, TOKEN)
    assert done.returncode == 0, done.stderr
    return folder / "out", cache, done


@pytest.fixture
def deaf():
    """Address of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken, stop = [], threading.Event()

        def take():
            server.settimeout(0.1)
            while not stop.is_set():
                try:
                    taken.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        thread.join()
        for connection in taken:
            connection.close()


def environment(endpoint, cache, token=None):
    """What makes a process use a Hub and a cache of its own; None takes a variable away."""
    return {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_TOKEN": token, "HF_HUB_OFFLINE": None}


def ask(argv, cwd, endpoint, cache, token=None):
    """Run the command with a Hub and a cache of its own."""
    return run_command(argv, cwd, **environment(endpoint, cache, token))


def refused(done, *faults):
    """Check that a command ended with one line for every fault, which holds its words, and nothing else."""
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", len(faults)), done.stdout + done.stderr
    for line, parts in zip(lines, faults):
        assert line.startswith("error: ") and all(part in line for part in parts), line


def read(folder, name="run.json"):
    return json.loads((folder / name).read_text())


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_run_by_names_alone_records_what_it_got(first_run, hub):
    folder, _, done = first_run
    record, results = read(folder), read(folder, "all_results.json")
    assert done.stderr == ""
    assert record["model"]["revision"] == hub.commit(f"models/{MODEL}")
    assert record["data"]["source"] == f"nyu-mll/glue at {hub.commit('datasets/nyu-mll/glue')}, cola"
    assert (results["train_samples"], results["eval_samples"]) == (40, 20)
    assert "eval_matthews_correlation" in results


def test_names_give_what_folders_give(first_run, command, tiny_model, tmp_path):
    """The same rows and weights from local files: the same numbers, to the last bit."""
    lines = [
        "\n".join(f"x\t{label}\t\t{text}" for text, label in labelled_sentences(count, seed))
        for count, seed in ((40, 0), (20, 1))
    ]
    (tmp_path / "CoLA").mkdir()
    for name, text in zip(("train", "dev"), lines):
        (tmp_path / "CoLA" / f"{name}.tsv").write_text(text)
    flags = [
        "--model_name_or_path",
        tiny_model,
        "--task_name",
        "cola",
        "--glue_dir",
        tmp_path,
        "--num_train_epochs",
        "1",
    ]
    code, _, err = command([*flags, "--output_dir", tmp_path / "out"])
    assert code == 0, err
    assert read(tmp_path / "out", "all_results.json") == read(first_run[0], "all_results.json")
    for key in ("weight_hash", "drawn", "parameters"):
        assert read(tmp_path / "out")["model"][key] == read(first_run[0])["model"][key]
    for split in ("train", "eval"):
        assert read(tmp_path / "out")["data"][split] == read(first_run[0])["data"][split]


def test_without_the_hub_the_cache_serves_at_once(first_run, tmp_path):
    folder, cache, _ = first_run
    started = time.perf_counter()
    done = ask(RUN, tmp_path, CLOSED, cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert read(tmp_path / "out", "all_results.json") == read(folder, "all_results.json")
    assert read(tmp_path / "out")["model"]["revision"] == read(folder)["model"]["revision"]
    assert read(tmp_path / "out")["data"] == read(folder)["data"]
    timings = read(tmp_path / "out")["timings"]
    # mostly imports, on a machine that may be busy; the libraries' own retries would take minutes
    assert timings["data"] + timings["load"] < 45 and time.perf_counter() - started < 90


def test_a_run_into_a_folder_named_after_the_model_does_not_hide_it(first_run, hub, tmp_path):
    """The default output folder of a model on the Hub begins with the model's name."""
    folder, cache, _ = first_run
    (tmp_path / MODEL / "Glue_sparse_to_dense").mkdir(parents=True)
    done = ask(RUN, tmp_path, hub.endpoint, cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert read(tmp_path / "out", "all_results.json") == read(folder, "all_results.json")
    assert read(tmp_path / "out")["model"] == read(folder)["model"]


DOWNLOAD = """
from pathlib import Path
from junkdna.models import hub
folder = Path(hub.download("tests/talker", "main"))
print(*sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
"""


def test_chat_templates_and_codes_are_fetched_with_a_tokenizer(hub, tmp_path):
    names = {"config.json", "vocab.txt", "bpe.codes", "chat_template.jinja", "additional_chat_templates/tool.jinja"}
    others = {"README.md", "onnx.bin", "picture.png"}
    files = dict.fromkeys([*names, "model.safetensors", *others], b"{}")
    hub.add("models/tests/talker", files)
    done = python(DOWNLOAD, tmp_path, environment(hub.endpoint, tmp_path / "cache"))
    assert done.returncode == 0 and set(done.stdout.split()) == {*names, "model.safetensors"}


MISTAKES = [
    (
        ["--model_name_or_path", "tests/no-such-model"],
        ["--model_name_or_path tests/no-such-model: no such", "127.0.0.1"],
    ),
    (["--model_revision", "v9"], [f"--model_revision v9: {MODEL} has no such branch, tag or commit"]),
    (["--max_length", "129"], [f"--max_length 129: {MODEL} has positions for at most 128 tokens"]),
    (["--model_name_or_path", "tests/three-labels"], ["3 label(s)", "has 2", "--ignore_mismatched_sizes"]),
    (["--task_name", "rte"], ["--task_name rte", "answers, but", "--glue_dir"]),
]
ONE_BY_ONE = """
import json, sys, Glue_prune_oneshot
for words in json.load(sys.stdin):
    print("code:", Glue_prune_oneshot.main(words), file=sys.stderr)
"""


def test_mistakes_that_only_the_hub_can_show(first_run, hub, tmp_path):
    """One process for all of them: most of the time goes into imports."""
    commands = json.dumps([[*RUN, *flags] for flags, _ in MISTAKES])
    done = python(ONE_BY_ONE, tmp_path, environment(hub.endpoint, first_run[1]), commands)
    assert done.stdout == "" and done.stderr.count("\n") == 2 * len(MISTAKES), done.stderr
    lines = iter(done.stderr.splitlines())
    for _, parts in MISTAKES:
        line = next(lines)
        assert line.startswith("error: ") and all(part in line for part in parts), line
        assert next(lines) == "code: 2"
    assert list(tmp_path.iterdir()) == []


def python(code, cwd, variables, stdin=""):
    """Run a few lines of Python that import the program."""
    variables = os.environ | variables | {"PYTHONPATH": f"{SCRIPT.parents[1]}:{SCRIPT.parent}"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={name: value for name, value in variables.items() if value is not None},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- out of reach, and nothing cached --------------------------------------------------------------------------------


def in_time(argv, cwd, endpoint, cache):
    started = time.perf_counter()
    done = ask(argv, cwd, endpoint, cache)
    assert time.perf_counter() - started < 30
    return done


def test_glue_out_of_reach(tmp_path):
    done = in_time(RUN, tmp_path, CLOSED, tmp_path / "cache")
    model = [f"--model_name_or_path {MODEL}", f"{CLOSED} cannot be reached", "give a folder"]
    refused(done, model, ["--task_name cola", f"{CLOSED} cannot be reached", "--glue_dir", "--train_file"])
    assert not (tmp_path / "out").exists()


def test_glue_on_a_hub_that_never_answers(tmp_path, deaf, tiny_model):
    done = in_time([*RUN, "--model_name_or_path", tiny_model], tmp_path, deaf, tmp_path / "cache")
    refused(done, ["--task_name cola", f"{deaf} cannot be reached", "--glue_dir"])
    assert not (tmp_path / "out").exists()


def test_model_on_a_hub_that_never_answers(tmp_path, deaf, csv_task):
    flags = ["--model_name_or_path", MODEL, *csv_task.flags, "--output_dir", "out"]
    done = in_time(flags, tmp_path, deaf, tmp_path / "cache")
    refused(done, [f"--model_name_or_path {MODEL}", f"{deaf} cannot be reached", "give a folder"])
    assert not (tmp_path / "out").exists()


# --- uploading -------------------------------------------------------------------------------------------------------

NAMED = "roberta-tiny-Glue_sparse_to_dense-cola-0.2-100-42"  # model, method, task, pattern, percentage, seed
OWN = "tiny-roberta-Glue_sparse_to_dense-words-0.2-100-42"


@pytest.fixture
def local(tiny_model, csv_task):
    """A run that needs nothing from the Hub but to upload there."""
    return ["--model_name_or_path", tiny_model, *csv_task.flags, "--num_train_epochs", "1", "--push_to_hub"]


def test_an_upload_arrives_and_holds_the_model_alone(first_run, hub):
    folder, _, done = first_run
    assert done.stdout.endswith(f"uploaded  tester/{NAMED}\n")
    files = hub.repos[f"models/tester/{NAMED}"]
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert all(content == (folder / name).read_bytes() for name, content in files.items())
    written = [file.read_bytes() for file in folder.iterdir()]
    assert len(written) > len(files)
    assert not any(TOKEN.encode() in text for text in [*written, done.stdout.encode()])


PUSH = """
import sys
from junkdna.models import hub
from junkdna.errors import UserError
from junkdna.runs import records
try:
    print(hub.push("out", sys.stdin.read(), records.saved_model("out")))
except UserError as error:
    print(error)
"""


def test_an_upload_into_a_repository_that_exists(first_run, hub, tmp_path):
    hub.add("models/me/model", {"config.json": b"old", "notes": b"kept"})
    done = python(PUSH, first_run[0].parent, environment(hub.endpoint, tmp_path / "cache", TOKEN), "me/model")
    assert (done.stdout, done.stderr) == ("me/model\n", "")
    assert hub.repos["models/me/model"] == hub.repos[f"models/tester/{NAMED}"] | {"notes": b"kept"}


ENCODER = ("config.json", "model.safetensors", "tokenizer.json")
DECODER = ("equation_decoder.json", "equation_decoder.safetensors")
KEPT = ("all_results.json", "history.jsonl", "mask.safetensors", "predictions.jsonl", ".previous/model.safetensors")
TEMPLATES = ("additional_chat_templates/tool.jinja", "additional_chat_templates/rag.jinja")


@pytest.mark.parametrize(
    "record, uploaded",
    [
        ({"model_files": [*ENCODER, *DECODER, "additional_chat_templates"]}, {*ENCODER, *DECODER, *TEMPLATES}),
        ({"model_files": ["config.json", "../precious", "run.json", 1]}, {"config.json"}),
        ({}, {*ENCODER, *DECODER, "vocab.txt"}),  # of before
        ({"model_files": [*ENCODER], "unwritten": {"model": "No space left on device"}}, None),
    ],
    ids=["a word problem's", "nothing outside it", "an old record", "not written whole"],
)
def test_what_the_record_names_is_uploaded_and_nothing_else(hub, tmp_path, record, uploaded):
    for name in (*ENCODER, *DECODER, *TEMPLATES, *KEPT, "vocab.txt", "checkpoint-1/model.safetensors"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(name)
    (tmp_path / "precious").write_text("the user's")
    (tmp_path / "out/run.json").write_text(json.dumps(record))
    repo = f"me/{tmp_path.name}"
    done = python(PUSH, tmp_path, environment(hub.endpoint, tmp_path / "cache", TOKEN), repo)
    assert done.stderr == ""
    if uploaded is None:
        assert done.stdout.startswith(f"push_to_hub: {repo}: out holds no saved model to upload; ")
    assert hub.repos.get(f"models/{repo}") == (uploaded and {name: name.encode() for name in uploaded})


def test_an_upload_that_fails_says_how_to_go_on(first_run, hub, tmp_path):
    """The stand-in lets nobody write there."""
    done = python(PUSH, first_run[0].parent, environment(hub.endpoint, tmp_path / "cache", TOKEN), "refused/model")
    for part in ("push_to_hub: refused/model", "the upload failed (403)", "complete", "hf upload refused/model out"):
        assert part in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "token, flags, parts",
    [
        (None, [], [f"--push_to_hub: {OWN}", "no token", "hf auth login", "HF_TOKEN"]),
        (
            "hf_wrong",
            [],
            [f"--push_to_hub: {OWN}", "rejects the token (401)", "hf auth login"],
        ),
        (
            "hf_wr\xf6ng\n",
            [],
            [f"--push_to_hub: {OWN}", "rejects the token", "hf auth login"],
        ),
        (
            TOKEN,
            ["--hub_model_id", "a/b/c"],
            ["--push_to_hub: a/b/c", "is not a valid repository name", "hub_model_id"],
        ),
    ],
)
def test_an_upload_that_cannot_succeed_is_refused_first(local, hub, tmp_path, token, flags, parts):
    done = ask([*local, "--output_dir", "out", *flags], tmp_path, hub.endpoint, tmp_path / "cache", token)
    refused(done, parts)
    assert "hf_wr" not in done.stderr and TOKEN not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words, name",
    [
        (["some/model", "cola", "100 %"], "some-model-cola-100"),
        (["a--b", "..", "c. .d", "é"], "a-b-.-c.-.d"),
        ([".model-", "few-shot 1000", "42"], "model-few-shot-1000-42"),
        (["x" * 90, "cola", "42"], "x" * 87 + "-f2b9a2f5"),
    ],
)
def test_a_repository_s_name_is_one_that_the_hub_takes(words, name):
    from huggingface_hub.utils import validate_repo_id

    from junkdna.models.hub import repository_name

    assert repository_name(words) == name
    validate_repo_id(repository_name(words))
    assert repository_name([*words, "1"]) != repository_name([*words, "2"])


def test_an_upload_needs_the_hub(local, tmp_path):
    done = in_time([*local, "--output_dir", "out"], tmp_path, CLOSED, tmp_path / "cache")
    refused(done, [f"--push_to_hub: {OWN}", f"{CLOSED} cannot be reached"])
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_not_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("junkdna.models.hub.reach", lambda: False)
    for name, here, reason in (
        ("mine", None, "is a folder without config.json, "),
        ("mine", True, "cannot be loaded: "),  # of a GGUF file, which needs no config.json
        ("yours", None, "no such folder, "),
    ):
        with pytest.raises(UserError) as caught, loading_errors(name, here=here):
            raise OSError("cut off")
        assert caught.value.faults[0].reason.startswith(reason)
