"""What the flags of translation say together, what is refused before anything is loaded, and what a cell is called."""

import gzip
import shutil

import pytest
import tiny

from junkdna.runs import request
from junkdna.runs.settings import flags
from Translation_prune_oneshot import FAMILY, main

FEW = ("--num_train_epochs", "2")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("flags")
    tiny.save("mbart", root / "model")
    for pair in ("en-de", "en-gu"):
        tiny.write_pair(root / "text", pair, train=5, test=3)
    for language in ("en", "tlh"):
        shutil.copy(root / "text" / "test.en-de.en", root / "text" / f"test.en-tlh.{language}")
    return root


def words(world, *more):
    return ["--model_name_or_path", str(world / "model"), "--data_dir", str(world / "text"), *map(str, more)]


def cells(world, *more):
    return request.parse(FAMILY, words(world, *more)).cells


REFUSED = {
    "no pair": ((), "error: no language pair: give --pair, source-target (en-de)"),
    "one language": (("--pair", "en"), "--pair en: is not a pair of languages, source-target, such as en-de"),
    "twice the same language": (("--pair", "en-en"), "--pair en-en: names one language twice; give two"),
    "capitals": (("--pair", "en-DE"), "'DE' is not a language (did you mean de?)"),
    "an unknown pair": (("--pair", "en-fr"), "has no rows of en-fr; its pairs: en-de, en-gu, en-tlh"),
    "a language that the model does not know": (
        ("--pair", "en-tlh"),
        "--pair en-tlh: the model does not know 'tlh'; nearest of its 26: ",
    ),
    "seeds of one run": (
        ("--pair", "en-de", "--seed", 1, 2),
        "--seed 1 2: all would be the same run, as nothing is trained or drawn; give one of them",
    ),
    "no such folder": (("--pair", "en-de", "--data_dir", "nowhere"), "--data_dir nowhere: no such folder"),
    "a way": (
        ("--pair", "en-de", "--directions", "forwards"),
        "--directions forwards: unknown (did you mean forward?)",
    ),
    "two ways to hold": (
        ("--pair", "en-de", *FEW, "--freeze_weights", "--freeze_weights_frompretrain"),
        "--freeze_weights --freeze_weights_frompretrain: give one of them",
    ),
    "after and held": (
        ("--pair", "en-de", *FEW, "--prune_after_training", "--freeze_weights"),
        "--prune_after_training --freeze_weights: one prunes when training is over",
    ),
    "nothing after": (
        ("--pair", "en-de", *FEW, "--prune_after_training", "--sparsity_pattern", "dense"),
        "--prune_after_training: a dense run prunes nothing",
    ),
    "a temperature alone": (
        ("--pair", "en-de", *FEW, "--temperature", 5),
        "--temperature 5: has no effect without --mix",
    ),
    "a mix of one pair": (
        ("--pair", "en-de", *FEW, "--mix", "en-de", "de-en"),
        "--mix de-en: en-de names the same two languages; --directions says which ways",
    ),
    "a mix of a pair and itself": (
        ("--pair", "en-de", *FEW, "--mix", "en-de", "en-de"),
        "--mix en-de: en-de names the same two languages; --directions says which ways",
    ),
    "a mix the other way round": (
        ("--pair", "de-en", *FEW, "--mix", "en-de", "en-gu", "--directions", "forward"),
        "--pair de-en: --mix names it en-de; give both in the same order",
    ),
    "smoothing": (
        ("--pair", "en-de", *FEW, "--label_smoothing", 1),
        "--label_smoothing 1: must be a number >= 0 and < 1",
    ),
    "beams": (("--pair", "en-de", "--num_beams", 0), "--num_beams 0: must be a whole number >= 1"),
    "a penalty without a beam": (
        ("--pair", "en-de", "--num_beams", 1, "--length_penalty", 2),
        "--length_penalty 2: has no effect with --num_beams 1",
    ),
    "more pairs than there are": (
        ("--pair", "en-de", *FEW, "--train_pairs", 6),
        "--train_pairs 6: en-de has 5 sentence pairs to train on; give less",
    ),
    "the same run twice": (("--pair", "en-de", "en-de"), "the command asks for the same run twice"),
    "one folder": (("--pair", "en-de", "en-gu", "--output_dir", "out"), "use {pair} in it"),
    "a field": (("--pair", "en-de", "--output_dir", "{shot}"), "unknown field {shot} (did you mean shots?)"),
    "fairseq's flag": (("--pair", "en-de", "--source-lang", "en"), "--source-lang: --pair names both languages"),
    "graphs": (("--pair", "en-de", "--cuda_graphs"), "--cuda_graphs: is for encoders; leave it out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line_before_anything_is_loaded(case, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("junkdna.models.translator.Translator", None)
    given, said = REFUSED[case]
    assert main(words(world, *given)) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_pairs_that_opus_lacks_are_refused_before_any_run(world, tmp_path, capsys):
    model = ("--model_name_or_path", world / "model", "--sparsity", 0.5, "--output_dir", tmp_path / "{pair}")
    assert main([str(word) for word in ("--pair", "de-cs", "en-fil", *model)]) == 2
    err = capsys.readouterr().err
    assert "--pair de-cs: OPUS-100 has pairs with English" in err and "OPUS-100 has no language 'fil'" in err
    assert list(tmp_path.iterdir()) == []


OF_TRAINING = {
    "--train_pairs": 3, "--mix": "en-de", "--temperature": 2, "--max_length": 9, "--label_smoothing": 0.2,
    "--dropout": 0.3, "--attention_dropout": 0.1, "--per_device_train_batch_size": 4, "--learning_rate": 1e-3,
    "--weight_decay": 0.1, "--gradient_accumulation_steps": 2, "--lr_scheduler_type": "cosine", "--num_warmup_steps": 3,
    "--checkpointing_steps": 5, "--resume_from_checkpoint": "latest", "--freeze_weights": None,
    "--freeze_weights_frompretrain": None, "--prune_after_training": None,
}  # fmt: skip


def test_every_flag_of_training_says_that_nothing_is_trained(world, capsys):
    for name, value in OF_TRAINING.items():
        given = (name,) if value is None else (name, value)
        assert main(words(world, "--pair", "en-de", *given)) == 2
        said = name if value is None else f"{name} {value}"
        wanted = f"error: {said}: has no effect without training; give --num_train_epochs or --max_train_steps\n"
        assert capsys.readouterr().err == wanted
    for name in ("--dropout", "--attention_dropout"):  # 0 is another value than none
        assert main(words(world, "--pair", "en-de", name, 0)) == 2
        assert f"error: {name} 0: has no effect without training" in capsys.readouterr().err
    known = {f"--{name}" for title, name, _ in flags(FAMILY.cell) if title == "training"}
    both_ways = {
        "num_train_epochs",
        "max_train_steps",
        "per_device_eval_batch_size",
        "mixed_precision",
        "deterministic",
    }
    both_ways |= {"seed", "report_to", "with_tracking"}  # a tracker has to be installed
    assert known - set(OF_TRAINING) == {f"--{name}" for name in both_ways}


def test_files_that_do_not_fit_are_refused_with_both_counts(world, tmp_path, capsys):
    text = shutil.copytree(world / "text", tmp_path / "text")
    given = ["--model_name_or_path", str(world / "model"), "--data_dir", str(text), "--pair", "en-de"]
    (text / "test.en-de.de").write_text("eins\nzwei\n")
    assert main(given) == 2
    assert "have 3 and 2 lines; line n of one must be the translation of line n" in capsys.readouterr().err
    (text / "test.en-de.de").unlink()
    assert main(given) == 2
    assert "has test.en-de.en but not the other side, test.en-de.de" in capsys.readouterr().err
    # a zero-shot run reads no training text
    (text / "test.en-de.de").write_text("eins\nzwei\ndrei\n")
    (text / "train.en-de.de").unlink()
    assert main([*given, "--dry_run"]) == 0
    assert main([*given, *FEW, "--dry_run"]) == 2
    assert "has train.en-de.en but not the other side" in capsys.readouterr().err


# --- cells -----------------------------------------------------------------------------------------------------------


def test_a_grid_is_every_pair_with_every_number_of_training_pairs(world):
    made = cells(world, "--pair", "en-de", "en-gu", "--train_pairs", 2, 4, *FEW, "--sparsity", 0.5, "--with_dense")
    assert len(made) == 8 and {cell.axes["shots"] for cell in made} == {"few-shot 2", "few-shot 4"}
    assert made[0].axes == {"shots": "few-shot 2", "pair": "en-de"} and made[0].label == "en-de few-shot 2"
    folder = "./model/Translation_sparse_to_dense/en-gu/0.5/4/42/"
    assert folder in [cell.output_dir for cell in made]
    (zero,) = cells(world, "--pair", "en-de", "--sparsity", 0.3, "--noembed")
    assert zero.axes == {"shots": "zero-shot", "pair": "en-de"} and zero.treatment == "one-shot"
    assert zero.output_dir == "./model/Translation_noembed_zero_shot/en-de/0.3/0/42/"
    template = "{pair}-{shots}-{pattern}-{seed}-{train_pairs}"
    assert cells(world, "--pair", "en-de", "--train_pairs", 3, *FEW, "--output_dir", template)[0].output_dir == (
        "en-de-few-shot-3-0.2-42-3"
    )


TREATMENTS = {
    "sparse transfer": ("--freeze_weights",),
    "dense transfer with freezing": ("--freeze_weights_frompretrain",),
    "sparse-to-dense transfer": (),
    "one-shot after fine-tuning": ("--prune_after_training",),
}


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_treatments_have_their_names_and_dense_runs_have_one(treatment, world):
    dense, pruned = cells(world, "--pair", "en-de", *FEW, *TREATMENTS[treatment], "--sparsity", 0.5, "--with_dense")
    assert (dense.treatment, pruned.treatment) == ("dense transfer", treatment)
    assert not dense.prune_after_training and pruned.prunes_first == (treatment != "one-shot after fine-tuning")


def test_what_trains_alike_has_one_key_and_what_does_not_has_others(world):
    def made(*more):
        return cells(world, "--pair", "en-de", "en-gu", *FEW, "--sparsity", 0.3, 0.5, "--with_dense", *more)

    after = made("--prune_after_training")
    assert len({cell.trained for cell in after}) == 2 and len({cell.pruned for cell in after if not cell.dense}) == 4
    mixed = made("--prune_after_training", "--mix", "en-de", "en-gu")
    assert len({cell.trained for cell in mixed}) == 1 and len({cell.pruned for cell in mixed if not cell.dense}) == 2
    held = made("--freeze_weights", "--mix", "en-de", "en-gu")
    assert len({cell.trained for cell in held}) == 3 and all(cell.shares_training for cell in held)
    assert {cell.trained for cell in held if cell.dense} == {cell.trained for cell in mixed if cell.dense}
    assert len({cell.trained for cell in made("--freeze_weights", "--seed", 1, 2)}) == 12
    zero = [
        cell
        for seed in (1, 2)
        for cell in cells(world, "--pair", "en-de", "en-gu", "--sparsity", 0.3, 0.5, "--seed", seed)
    ]
    assert len({cell.pruned for cell in zero}) == 2
    assert len({cell.pruned for cell in cells(world, "--pair", "en-de", "--score", "random", "--seed", 1, 2)}) == 2


def test_seeds_are_trained_one_after_the_other_not_pattern_by_pattern(world):
    """The model that was trained last is kept, and no other: each is a training that takes hours."""
    mix = ("--pair", "en-de", "en-gu", *FEW, "--mix", "en-de", "en-gu", "--prune_after_training")
    made = cells(world, *mix, "--sparsity", 0.3, 0.5, "--with_dense", "--seed", 1, 2)
    assert [cell.seed for cell in made] == [1] * 6 + [2] * 6
    assert len({cell.trained for cell in made}) == 2


def test_zero_shot_runs_that_draw_nothing_run_once(world, capsys):
    zero = ("--pair", "en-de", "--score", "random", "--with_dense", "--seed", 1, 2)
    assert [(cell.pattern_slug, cell.seed) for cell in cells(world, *zero)] == [
        ("dense", 1), ("random-0.2", 1), ("random-0.2", 2),
    ]  # fmt: skip
    assert capsys.readouterr().out == "1 run does not depend on the seed: for seed 1 only\n"
    assert len(cells(world, *zero, *FEW)) == len(cells(world, *zero, *FEW, "--prune_after_training")) == 4


def test_the_directions_of_a_pair_and_the_files_that_are_read(world, tmp_path):
    (cell,) = cells(world, "--pair", "en-de")
    assert cell.ways("en-de") == [("en", "de"), ("de", "en")]
    assert cells(world, "--pair", "en-de", "--directions", "backward")[0].ways("en-de") == [("de", "en")]
    assert cells(world, "--pair", "de-en", "--directions", "forward")[0].ways("de-en") == [("de", "en")]
    assert sorted(cell.files_read) == ["--data_dir test.en-de.de", "--data_dir test.en-de.en"]
    (few,) = cells(world, "--pair", "en-de", "--mix", "en-gu", *FEW)
    assert [name.split()[1] for name in few.files_read] == [
        "test.en-de.en", "test.en-de.de", "train.en-gu.en", "train.en-gu.gu",
    ]  # fmt: skip
    text = tmp_path / "text"
    text.mkdir()
    for side in ("en", "de"):
        with gzip.open(text / f"test.{side}.gz", "wt") as file:
            file.write("a\nb\n")
    assert sorted(cells(world, "--pair", "en-de", "--data_dir", text)[0].files_read) == [
        "--data_dir test.de.gz", "--data_dir test.en.gz",
    ]  # fmt: skip
