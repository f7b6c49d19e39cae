"""Bad input to the command of questions: one line that names the flag, exit code 2, before anything is loaded."""

import json

import pytest
import small_world

import QA_prune_oneshot
from junkdna.families.qa.cell import task_of_file
from junkdna.runs import records, request


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a model, questions with and without texts, a text, and files that are none."""
    root = tmp_path_factory.mktemp("flags")
    (root / "model").mkdir()
    small_world.save_model(root / "model")
    small_world.save_questions(root / "colours.jsonl")
    bare = [{key: value for key, value in row.items() if key != "context"} for row in small_world.rows()]
    small_world.save_questions(root / "bare.jsonl", bare)
    small_world.save_questions(root / "unanswered.jsonl", [{"question": "who?", "answers": []}])
    small_world.save_text(root / "text.txt")
    small_world.save_questions(root / "halves.jsonl", [{"question": "who? \ud83d", "answers": ["I"]}])
    (root / "short.txt").write_text("too short\n")
    (root / "none.gguf").write_bytes(b"nothing of the kind")
    encoder = root / "encoder"
    encoder.mkdir()
    for file in (root / "model").iterdir():
        (encoder / file.name).write_bytes(file.read_bytes())
    config = json.loads((encoder / "config.json").read_text())
    changed = config | {"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}
    (encoder / "config.json").write_text(json.dumps(changed))
    return root


GOOD = {"--model_name_or_path": "model", "--data_file": "colours.jsonl", "--calibration": "text.txt"}

BAD = {
    "no calibration text": (
        ["--prune_method", "wanda", "--calibration", "gone.txt"],
        "--calibration gone.txt: no such",
    ),
    "a text too short": (
        ["--prune_method", "wanda", "--calibration", "short.txt", "--seqlen", "32"],
        "--calibration short.txt: has",
    ),
    "M divides no width": (["--nm_ratio", "3:7"], "--nm_ratio 3:7: 7 does not divide the model's hidden_size 32"),
    "no answers": (["--data_file", "unanswered.jsonl"], "--data_file unanswered.jsonl: row 1 has no answers"),
    "an open book without texts": (
        ["--data_file", "bare.jsonl", "--book", "open"],
        "--book open: 12 of 12 rows of bare.jsonl have no text",
    ),
    "the same from the Hub": (["--data_file", None, "--task_name", "nq_open", "--book", "open"], "--book open: --task"),
    "an encoder": (["--model_name_or_path", "encoder"], "--model_name_or_path encoder: is not a causal language model"),
    "a GGUF that is none": (
        ["--model_name_or_path", ".", "--gguf_file", "none.gguf"],
        "--gguf_file none.gguf: ./none.gguf is not a GGUF file",
    ),
    "no such GGUF": (["--model_name_or_path", ".", "--gguf_file", "gone.gguf"], "--gguf_file gone.gguf: ./gone.gguf"),
    "more shots than rows": (["--shots", "12"], "--shots 12: colours.jsonl has 12 row(s)"),
    "a context longer than the positions": (
        ["--book", "open", "--max_new_tokens", "400"],
        "--context_characters 3072: 6 of 12 questions need up to",
    ),
    "sparsity 1": (["--sparsity", "1"], "--sparsity 1: must be a number in [0, 1)"),
    "a sparsity below 0": (["--sparsity", "-0.1"], "--sparsity -0.1: must be a number in [0, 1)"),
    "a method that is none": (["--prune_method", "wnda"], "--prune_method wnda: unknown (did you mean wanda?)"),
    "a task that is none": (["--task_name", "trivia"], "--task_name trivia: unknown (did you mean trivia_qa?)"),
    "a book that is none": (["--book", "opened"], "--book opened: unknown (did you mean open?)"),
    "no questions": (["--data_file", None], "no questions: give --task_name (trivia_qa or nq_open) or --data_file"),
    "a file of another kind": (["--data_file", "text.txt"], "--data_file text.txt: must end in .jsonl"),
    "the variant of another method": (["--use_variant"], "--use_variant: is a variant of --prune_method wanda"),
    "windows without a text": (["--perplexity_windows", "3"], "--perplexity_windows 3: has no effect without"),
    "a window beyond the positions": (
        ["--perplexity", "text.txt", "--perplexity_window", "513"],
        "--perplexity_window 513: the model has positions for at most 512 tokens",
    ),
    "a sample beyond the positions": (
        ["--prune_method", "sparsegpt", "--seqlen", "1024"],
        "--seqlen 1024: the model has positions for at most 512 tokens",
    ),
    "ratio and released ratio": (
        ["--sparsity_type", "2:8", "--nm_ratio", "2:8"],
        "--nm_ratio 2:8: contradicts --sparsity_type",
    ),
    "a released type that is none": (["--sparsity_type", "8:8"], "--sparsity_type 8:8: must be unstructured, or n:m"),
    "a cache folder": (["--cache_dir", "x"], "--cache_dir: is not needed; set HF_HOME"),
    "saving as it was": (["--save", "x"], "--save: is not needed; --output_dir says"),
    "a template that the tokenizer lacks": (["--chat_template"], "--chat_template: the model's tokenizer has none"),
    "a text too short for perplexity": (["--perplexity", "short.txt"], "--perplexity short.txt: has"),
    "the variant with a released ratio": (
        ["--prune_method", "wanda", "--use_variant", "--sparsity_type", "2:4"],
        "--use_variant: is for unstructured sparsity",
    ),
    "a mask file with a released ratio": (
        ["--mask_file", "text.txt", "--sparsity_type", "2:4"],
        "--mask_file text.txt: already says what is removed; leave --sparsity_type out",
    ),
    "unstructured in one spelling only": (
        ["--sparsity_type", "unstructured", "--nm_ratio", "2:4"],
        "--nm_ratio 2:4: contradicts --sparsity_type unstructured",
    ),
    "nothing and a released ratio": (
        ["--sparsity_ratio", "0", "--sparsity_type", "2:4"],
        "--sparsity 0: removes nothing, --sparsity_type does",
    ),
    "sparsities and a released ratio": (
        ["--sparsity_ratio", "0.1", "0.2", "--sparsity_type", "2:4"],
        "--sparsity: several of them beside --sparsity_type",
    ),
    "half of a character": (
        ["--data_file", "halves.jsonl"],
        "--data_file halves.jsonl: row 1 has in 'question' \\ud83d, half of a character",
    ),
    "seeds of which nothing is drawn": (
        ["--prune_method", "magnitude_row", "--seed", "0", "1"],
        "--seed 0 1: all would be the same run, as nothing is trained or drawn",
    ),
    "seeds of a mask file": (["--mask_file", "text.txt", "--seed", "3", "1"], "--seed 3 1: all would be the same run"),
    "dense with a method": (["--sparsity_pattern", "dense", "--sparsity", "0.5"], "--sparsity_pattern dense: does not"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_line_and_exit_code_2(name, here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    words, said = BAD[name]
    given = dict(GOOD)
    rest = []
    words = list(words)
    while words:
        flag = words.pop(0)
        if flag in GOOD:
            given[flag] = words.pop(0)
        else:
            rest.append(flag)
    flags = [word for flag, value in given.items() if value is not None for word in (flag, value)]
    try:
        code = QA_prune_oneshot.main([*flags, *rest, "--output_dir", "out"])
    except SystemExit as end:
        code = end.code
    err = capsys.readouterr().err
    assert code == 2 and err.startswith(f"error: {said}") and err.count("\n") == 1, err
    assert not (here / "out").exists()


def test_the_list_is_whole():
    assert len(BAD) == 37


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("a/trivia.v2.jsonl", "trivia.v2"),
        ("a/trivia.v1.json.gz", "trivia.v1"),
        ("nq/validation.jsonl.gz", "nq"),
        ("colours.jsonl", "colours"),
    ],
)
def test_a_task_is_called_after_its_file_so_that_two_files_of_a_folder_are_two_tasks(file, label):
    assert task_of_file(file) == label


def test_both_ends_of_sparsity(here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    flags = [word for pair in GOOD.items() for word in pair]
    for sparsity, removed in (("0", 0.0), ("0.999", 0.999)):
        words = ["--prune_method", "sparsegpt", "--seqlen", "32", "--nsamples", "2", "--max_new_tokens", "2"]
        words += ["--sparsity", sparsity, "--output_dir", f"end/{sparsity}"]
        assert QA_prune_oneshot.main([*flags, *words]) == 0
        found = json.loads((here / "end" / sparsity / "all_results.json").read_text())["sparsity"]
        assert abs(found - removed) < 0.002


def cells(here, *words):
    return request.parse(QA_prune_oneshot.FAMILY, [word for pair in GOOD.items() for word in pair] + list(words)).cells


def test_a_dense_run_is_the_same_whatever_is_pruned_beside_it(here, monkeypatch):
    monkeypatch.chdir(here)
    alone = cells(here, "--sparsity_pattern", "dense", "--with_dense")
    variant = cells(here, "--prune_method", "wanda", "--use_variant", "--with_dense")
    assert len(alone) == 1 and [cell.use_variant for cell in variant] == [False, True]
    assert variant[0].settings() == alone[0].settings()


def test_a_run_has_no_calibration_where_nothing_is_learned_from_it(here, monkeypatch):
    """Else another text, for the methods beside it, would make it another run. Earlier records hold what was given."""
    monkeypatch.chdir(here)
    plain, learned = cells(here, "--prune_method", "magnitude", "wanda", "--nsamples", "8", "--seqlen", "16")
    assert (plain.calibration, plain.nsamples, plain.seqlen) == (None, None, None)
    assert (learned.calibration, learned.nsamples, learned.seqlen) == ("text.txt", 8, 16)
    assert plain.settings() == cells(here, "--prune_method", "magnitude")[0].settings()
    given = {"calibration": "other.txt", "nsamples": 128, "seqlen": None}
    earlier = [{"family": "qa", "settings": cell.settings() | given} for cell in (plain, learned)]
    assert records.difference(earlier[0], plain) == []
    assert [text.split(":")[0] for text in records.difference(earlier[1], learned)] == list(given)


def test_what_draws_nothing_has_the_first_seed_alone(here, monkeypatch):
    monkeypatch.chdir(here)
    words = ("--prune_method", "magnitude", "wanda", "random", "--with_dense", "--shots", "0", "2", "--seed", "5", "3")
    made = {}
    for cell in cells(here, *words):
        made.setdefault((cell.score, cell.shots), []).append(cell.seed)
    assert made == {
        (None, 0): [5], ("magnitude", 0): [5], ("wanda", 0): [5, 3], ("random", 0): [5, 3],
        **{(score, 2): [5, 3] for score in (None, "magnitude", "wanda", "random")},
    }  # fmt: skip


def test_a_closed_book_has_no_length_of_text(here, monkeypatch):
    """Else the flag, given for the open book beside it, would multiply it, and make a finished run another one."""
    monkeypatch.chdir(here)
    made = cells(here, "--book", "open", "closed", "--context_characters", "12", "99")
    assert [(cell.book, cell.context_characters) for cell in made] == [("open", 12), ("open", 99), ("closed", None)]
    assert [cell.axes["context"] for cell in made] == ["12", "99", "none"]
    closed = made[-1]
    assert closed == cells(here, "--context_characters", "7")[0] and "/none/" in closed.output_dir
    earlier = {"family": "qa", "settings": closed.settings() | {"context_characters": 3072}}
    assert records.difference(earlier, closed) == []
    assert records.difference({"family": "qa", "settings": made[0].settings()}, made[1])


def test_the_default_of_every_pattern_is_half(here, monkeypatch):
    monkeypatch.chdir(here)
    assert [str(cell.sparsity) for cell in cells(here)] == ["0.5"]
    assert [cell.nm_ratio for cell in cells(here, "--sparsity_pattern", "nm")] == ["4:8"]
