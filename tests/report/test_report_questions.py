"""The report of runs that were asked questions: intervals over them, methods side by side, the scale of a change."""

import json

import numpy as np
import pandas as pd
import pytest

from junkdna.report import __main__ as report
from junkdna.report import (
    claims,
    collect,
    differences,
    figures,
    kinds,
    names,
    published,
    questions,
    resampling,
    summary,
    tables,
)
from junkdna.runs import seals
from made_up_runs import make_qa, make_sweep

MANY = 400


def hits(share, seed=0):
    """MANY answers of which this share is right, the same questions first for every share."""
    order = np.random.default_rng(seed).permutation(MANY)
    return order < round(share * MANY)


def cells_of(root, metric=None, **options):
    return summary.normalise(collect.collect([str(root)], metric)[0], **options)


def points_of(root, metric=None):
    return summary.points(cells_of(root, metric)).set_index(["book", "curve", "pattern"])


METHODS = ("magnitude", "wanda", "sparsegpt")


def grid(root, methods=METHODS, patterns=("0.3", "0.6", "4:8", "2:8"), **more):
    """Open book falls from 0.8, closed book from 0.5 and twice as fast."""
    for book, top, fall in (("open", 0.8, 0.4), ("closed", 0.5, 0.5)):
        make_qa(root, "dense", hits(top), book=book, **more)
        for i, method in enumerate(methods):
            for pattern in patterns:
                sparsity = 1 - int(pattern[0]) / 8 if ":" in pattern else float(pattern)
                rate = top - fall * sparsity + 0.05 * i
                make_qa(root, pattern, hits(rate), method=method, book=book, perplexity=20 + 1e4 * sparsity**3, **more)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_the_paired_bootstrap_over_questions(tmp_path):
    dense, pruned = hits(0.8), hits(0.5, seed=1)
    make_qa(tmp_path, "dense", dense)
    make_qa(tmp_path, "0.5", pruned)
    points = points_of(tmp_path)
    point = points.loc[("open", "one-shot, unstructured", "0.5")]
    draw = np.random.default_rng(5).integers(0, MANY, (40_000, MANY))
    ratios = pruned[draw].mean(axis=1) / dense[draw].mean(axis=1)
    assert [point["ratio_low"], point["ratio_high"]] == pytest.approx(np.percentile(ratios, [2.5, 97.5]), abs=0.006)
    assert [point["value_low"], point["value_high"]] == pytest.approx(
        np.percentile(pruned[draw].mean(axis=1), [2.5, 97.5]), abs=0.006
    )
    assert point["questions"] == MANY and point["ratio"] == pytest.approx(0.5 / 0.8) and point["note"] == ""
    base = points.loc[("open", "one-shot", "dense")]
    assert np.isnan(base["ratio_low"]) and base["value_low"] < 0.8 < base["value_high"]  # 100 % by definition


def test_numbers_of_rows_do_not_tell_two_data_sets_apart(tmp_path):
    """A file without ids gives its rows' numbers: equally many questions of two files are not the same ones."""
    for task, named in (("nq_open", None), ("trivia_qa", None), ("one", "q{}"), ("other", "q{}")):
        ids = [named.format(i) for i in range(MANY)] if named else None
        for pattern, share in (("dense", 0.8), ("0.3", 0.7), ("0.5", 0.5)):
            make_qa(tmp_path, pattern, hits(share), task=task, ids=ids)
    found = claims.claims(cells_of(tmp_path))
    mean = found[found["claim"] == "mean gap"].set_index(["task_a", "task_b"])["paired"]
    assert not mean["nq_open", "trivia_qa"] and mean["one", "other"]


def test_equal_answers_have_no_spread_and_less_is_better_is_turned_round(tmp_path):
    make_qa(tmp_path, "dense", hits(0.5))
    make_qa(tmp_path, "0.5", hits(0.5))
    point = points_of(tmp_path).loc[("open", "one-shot, unstructured", "0.5")]
    assert (point["ratio_low"], point["ratio_high"]) == (1, 1)
    cell = {"draws": questions.Draws("a", 2, np.array([0.5, 0.2])), "better": "lower", "chance": 1.0}
    cell["base_draws"] = questions.Draws("a", 2, np.array([0.25, 0.0]))
    compared = {name: questions.compared(cell, name) for name in ("ratio", "normalised", "above_chance")}
    assert compared["ratio"].tolist() == pytest.approx([2, np.nan], nan_ok=True)
    assert compared["normalised"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert compared["above_chance"].tolist() == pytest.approx([0.5 / 0.75, 0.8])
    assert questions.bounds(compared["ratio"]) == (None, None)  # half of the resamples have no value


def test_seeds_stay_what_the_uncertainty_is_over_where_there_are_several(tmp_path):
    for seed in (0, 1):
        make_qa(tmp_path, "dense", hits(0.8, seed), seed=seed)
        make_qa(tmp_path, "0.5", hits(0.5 + seed / 10, seed), seed=seed)
    make_qa(tmp_path, "0.5", hits(0.7), method="wanda")
    points = points_of(tmp_path)
    several, once = (points.loc[("open", f"one-shot, {name}", "0.5")] for name in ("magnitude", "wanda"))
    assert several["questions"] == 0 and np.isnan(several["ratio_low"]) and several["ratio_std"] > 0
    assert once["questions"] == MANY and once["ratio_low"] < once["ratio"] < once["ratio_high"]
    assert several["note"] == once["note"] == ""


def seeded(root, method, seeds, calibration=None, dense=(0, 1, 2), spread=0.0):
    """Open and closed book of one method; nothing but calibration samples differs between the seeds."""
    for book, top in (("open", 0.8), ("closed", 0.5)):
        asked = {"prompts": book, "calibration": None, "mask": None}
        for seed in dense:
            make_qa(root, "dense", hits(top), book=book, seed=seed, made_of=asked)
        for seed in seeds:
            drawn = {"calibration": calibration and f"{calibration} {seed}", "mask": f"{method} {calibration and seed}"}
            for pattern, lost in (("0.3", 0.1), ("0.6", 0.3 if book == "open" else 0.32)):
                right = hits(top - lost - spread * seed)
                make_qa(root, pattern, right, method=method, book=book, seed=seed, made_of=asked | drawn)


def test_seeds_of_one_and_the_same_run_count_as_one_and_the_interval_is_over_questions(tmp_path):
    seeded(tmp_path / "three", "magnitude", (0, 1, 2))
    seeded(tmp_path / "one", "magnitude", (0,), dense=(0,))
    three, one = (cells_of(tmp_path / name) for name in ("three", "one"))
    for made in (three, one):
        table = claims.claims(made)
        mean = table[table["claim"] == "mean gap"].iloc[0]
        assert (mean["seeds_a"], mean["questions"]) == (1, MANY) and mean["low"] < mean["estimate"] < mean["high"]
        assert set(summary.points(made)["seeds"]) == set(summary.points(made)["expected"]) == {1}
        assert summary.missing(made) == []
    pd.testing.assert_frame_equal(claims.claims(three), claims.claims(one))
    assert len(three) == 18 and (three["status"] == "repeated").sum() == 12
    assert "the same run as seed 0: nothing is trained or drawn" in tables.problems(three, [], [])


def test_a_dense_run_that_draws_nothing_is_the_base_of_every_seed(tmp_path):
    seeded(tmp_path, "wanda", (0, 1, 2), calibration="c4", dense=(0,), spread=0.02)
    cells = cells_of(tmp_path)
    assert cells["normalised"].notna().all() and set(cells["status"]) == {"done"} and summary.missing(cells) == []
    (point,) = summary.points(cells).query("book == 'open' and pattern == '0.3'").to_dict("records")
    assert (point["seeds"], point["normalised_seeds"], point["note"]) == (3, 3, "")
    assert point["ratio"] == pytest.approx((0.7 + 0.68 + 0.66) / 3 / 0.8)


def test_other_prompts_and_records_that_do_not_say_are_runs_of_their_own(tmp_path):
    for name, made_of in (("examples", {}), ("unknown", None)):
        for seed in (0, 1):
            told = made_of if made_of is None else {"prompts": f"{name} {seed}"}
            if seed == 0:
                make_qa(tmp_path / name, "dense", hits(0.8), made_of=told)
            make_qa(tmp_path / name, "0.5", hits(0.5), made_of=told, seed=seed)
        cells = cells_of(tmp_path / name)
        assert set(cells["status"]) == {"done"} and len(summary.missing(cells)) == 1
        assert cells.loc[cells["seed"] == 1, "normalised"].isna().all()


def test_a_repeated_seed_takes_nothing_from_the_one_that_it_repeats(tmp_path):
    """It has a value and no remark, and the weak base of both is what is to be remarked."""
    for seed in (0, 1):
        for pattern, share in (("dense", 0.03), ("0.3", 0.025), ("0.6", 0.02)):
            make_qa(tmp_path, pattern, hits(share), seed=seed, made_of={"mask": pattern})
    points = points_of(tmp_path).query("pattern != 'dense'")
    assert points["normalised"].tolist() == pytest.approx([0.025 / 0.03, 0.02 / 0.03], rel=0.1)
    assert set(points["seeds"]) == {1}


def test_a_seed_that_is_torn_or_differs_by_rounding_repeats_as_a_whole(tmp_path):
    seeded(tmp_path, "magnitude", (0, 1), dense=(0, 1))
    for folder in sorted(tmp_path.rglob("run.json")):
        run = json.loads(folder.read_text())
        if run["settings"]["seed"] == 1 and run["settings"].get("sparsity") == 0.6:
            (folder.parent / "all_results.json").unlink()  # not finished
            folder.write_text(json.dumps(run | {"status": "running"}))
    make_qa(tmp_path, "0.3", hits(0.72), method="magnitude", seed=2, made_of={"prompts": "open", "calibration": None,
        "mask": "magnitude None"})  # another machine  # fmt: skip
    cells = cells_of(tmp_path)
    assert cells.groupby("seed")["status"].unique().map(list).to_dict() == {
        0: ["done"],
        1: ["repeated"],
        2: ["repeated"],
    }
    assert summary.missing(cells) == [] and set(summary.points(cells)["note"]) == {""}


def test_masks_drawn_at_random_are_seeds_though_at_0_all_are_the_same(tmp_path):
    make_qa(tmp_path, "dense", hits(0.8), made_of={})
    for seed in (0, 1, 2):
        for pattern in ("0", "0.3"):
            mask = {"mask": f"{pattern} {seed * (pattern != '0')}"}
            make_qa(tmp_path, pattern, hits(0.8 - float(pattern) - seed / 50), method="random", seed=seed, made_of=mask)
    points = points_of(tmp_path).query("pattern != 'dense'")
    assert points["seeds"].tolist() == [3, 3] and set(points["note"]) == {""}


def test_a_second_record_of_a_run_under_the_same_seed_counts_once(tmp_path):
    for name in ("closed/3072", "closed/none"):  # made again below another name
        make_qa(tmp_path / name, "dense", hits(0.5), made_of={})
        make_qa(tmp_path / name, "0.5", hits(0.3), made_of={"mask": "a"})
    cells = cells_of(tmp_path)
    assert sorted(cells["status"]) == ["done", "done", "repeated", "repeated"]
    assert set(summary.points(cells)["note"]) == {""} and (summary.points(cells)["questions"] == MANY).all()


LINE = {"id": "0", "scores": {"containment": 1.0}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "predictions.jsonl is missing"),
        ("", "predictions.jsonl is empty"),
        ('{"id": "0", "sco', "predictions.jsonl, line 1: is not JSON"),
        ("[1]\n", "line 1: id is missing"),
        ('{"id": "0"}\n', "line 1: scores is missing"),
        (json.dumps(LINE) + '\n{"id": "1", "scores": {}}\n', "line 2: scores.containment is missing"),
        (2 * (json.dumps(LINE) + "\n"), "line 2: id 0 occurs twice"),
        ('{"id": "0", "scores": {"containment": NaN}}', "line 1: scores.containment is not a number"),
        ('{"id": "0", "scores": {"containment": true}}', "line 1: scores.containment is not a number"),
        (json.dumps(LINE) + "\n", "1 questions with a mean of 1, and the run's result is 0.5"),
        ("[" * 100_000, "line 1: is"),
    ],
)
def test_a_damaged_file_costs_its_run_the_interval_and_is_named(content, words, tmp_path):
    for pattern, share in (("dense", 0.8), ("0.3", 0.6), ("0.5", 0.5)):
        folder = make_qa(tmp_path, pattern, hits(share))
    file = folder / "predictions.jsonl"
    file.unlink()
    if content is not None:
        file.write_text(content)
    points = points_of(tmp_path)
    whole, damaged = (points.loc[("open", "one-shot, unstructured", pattern)] for pattern in ("0.3", "0.5"))
    assert whole["questions"] == MANY and whole["note"] == ""
    assert damaged["questions"] == 0 and np.isnan(damaged["ratio_low"]) and damaged["ratio"] == pytest.approx(0.625)
    assert damaged["note"].startswith("no interval: ") and words in damaged["note"]


def test_a_file_that_is_not_the_recorded_one_costs_the_interval_and_not_the_run(tmp_path):
    make_qa(tmp_path, "dense", hits(0.8))
    folder = make_qa(tmp_path, "0.5", hits(0.5))
    file = folder / "predictions.jsonl"
    run = json.loads((folder / "run.json").read_text())
    run["files"] = {file.name: seals.digest(file.read_bytes())}
    (folder / "run.json").write_text(json.dumps(seals.sealed(run)))
    at = ("open", "one-shot, unstructured", "0.5")
    assert points_of(tmp_path).loc[at, "questions"] == MANY
    file.write_text(file.read_text().replace('"id": "7"', '"id": "seven"'))
    point = points_of(tmp_path).loc[at]
    assert point["questions"] == 0 and point["ratio"] == pytest.approx(0.625)
    assert point["note"] == "no interval: predictions.jsonl is damaged or was changed"


def test_other_questions_than_the_dense_run_s_and_its_damage_are_named(tmp_path):
    dense = make_qa(tmp_path, "dense", hits(0.8))
    make_qa(tmp_path, "0.5", hits(0.5), ids=range(1, MANY + 1))
    make_qa(tmp_path, "0.6", hits(0.5))
    note = points_of(tmp_path)["note"]
    assert note["open", "one-shot, unstructured", "0.5"] == f"no interval: {questions.OTHERS.format('questions')}"
    (dense / "predictions.jsonl").write_text("{")
    note = points_of(tmp_path)["note"]["open", "one-shot, unstructured", "0.6"]
    assert note.startswith("no interval: of the run that it is compared with: predictions.jsonl, line 1")


def test_a_metric_of_no_question_and_a_family_without_predictions_lack_nothing(tmp_path):
    grid(tmp_path, methods=["wanda"], patterns=["0.3"])
    make_sweep(tmp_path, ["sst2"], ["0.5"], [1], lambda *_: 0.1)
    points = summary.points(cells_of(tmp_path, "perplexity"))
    assert set(points["note"]) == {""} and set(points["questions"]) == {0}
    points = summary.points(cells_of(tmp_path))
    assert set(points["note"]) == {""} and set(points.loc[points["family"] == "qa", "questions"]) == {MANY}


def test_draws_are_the_same_for_the_same_questions_and_their_chunks_do_not_matter(monkeypatch):
    scores = np.random.default_rng(0).random((50, 2))
    whole = questions.bootstrap(scores, 7)
    assert whole.shape == (resampling.DRAWS, 2) and (whole == questions.bootstrap(scores, 7)).all()
    alone = questions.bootstrap(scores[:, :1], 7)
    assert alone[:, 0] == pytest.approx(whole[:, 0])
    monkeypatch.setattr(questions, "CHUNK", 1000)
    assert questions.bootstrap(scores, 7).mean(axis=0) == pytest.approx(scores.mean(axis=0), abs=0.01)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "kind", "method"),
    [
        ({"score": "magnitude"}, "unstructured", "magnitude"),
        ({"score": "magnitude_row"}, "magnitude by row", "magnitude by row"),
        ({"score": "wanda"}, "wanda", "wanda"),
        ({"score": "wanda", "use_variant": True}, "wanda variant", "wanda variant"),
        ({"score": "sparsegpt", "use_variant": False}, "sparsegpt", "sparsegpt"),
        ({"score": "random"}, "random", "random"),
        ({"score": "magnitude", "sparsity_pattern": "nm"}, "N:M", "magnitude"),
        ({"score": "magnitude_row", "sparsity_pattern": "nm"}, "N:M, magnitude by row", "magnitude by row"),
        ({"score": "random", "sparsity_pattern": "per_row"}, "per row, random", "per row, random"),
    ],
)
def test_a_kind_names_the_method(settings, kind, method):
    assert kinds.kind_of({"sparsity_pattern": "unstructured"} | settings) == kind
    assert kinds.method_of(kind) == method


def test_an_axis_of_one_value_is_in_no_name_and_stays_a_column(tmp_path):
    grid(tmp_path, methods=["magnitude", "wanda"], patterns=["0.3"])
    cells = cells_of(tmp_path)
    assert {names.place_words(place) for place in cells["place"]} == {"trivia_qa open", "trivia_qa closed"}
    settled = {(("context", context), ("shots", "0")) for context in ("3072", "none")}
    assert set(cells["settled"]) == settled and set(cells["shots"]) == {"0"}
    assert set(cells["curve"]) == {"one-shot", "one-shot, magnitude", "one-shot, wanda"}  # calibration is the method's
    assert "calibration" not in set(differences.differences(cells)["name"])
    text = tables.means(summary.points(cells))
    assert "| model | task | book | curve |" in text and "Everywhere: context 3072 where it applies, shots 0." in text
    make_qa(tmp_path, "0.3", hits(0.4), shots="5")
    places = {names.place_words(place) for place in cells_of(tmp_path)["place"]}
    assert places == {"trivia_qa open shots 0", "trivia_qa open shots 5", "trivia_qa closed shots 0"}
    make_qa(tmp_path, "0.3", hits(0.4), method="wanda", calibration="wikitext2", folder=tmp_path / "other")
    assert "one-shot, wanda, calibration wikitext2" in set(cells_of(tmp_path)["curve"])


def test_texts_are_called_by_the_names_of_their_files(tmp_path):
    """A calibration text does not have the role of a source, and the setting --perplexity is called like the metric."""
    make_qa(tmp_path, "dense", hits(0.6), perplexity_text="/home/me/wiki.raw")
    for method, calibration in (("wanda", "c4"), ("sparsegpt", "/home/me/one/text.txt")):
        make_qa(tmp_path, "0.3", hits(0.4), method=method, calibration=calibration, perplexity_text="/home/me/wiki.raw")
    cells = cells_of(tmp_path)
    assert list(cells["perplexity_asked"]) == ["wiki.raw"] * 3 and set(cells["perplexity"]) == {20.0}
    assert set(cells["calibration"].dropna()) == {"c4", "text.txt"}
    curves = {"one-shot", "one-shot, wanda, calibration c4", "one-shot, sparsegpt, calibration text.txt"}
    assert set(cells["curve"]) == curves
    assert set(differences.differences(cells).set_index("name").loc["calibration", "value"]) == {"c4", "text.txt"}
    assert report.main([str(tmp_path / "qa"), "--out", str(tmp_path)]) == 0
    for name in ("summary.csv", "summary.md", "claims.csv", "claims.md", "report.html"):
        assert "/home/me" not in (tmp_path / name).read_text(), name


def test_a_length_that_means_nothing_for_closed_book_does_not_keep_it_from_open_book(tmp_path):
    for book, context in (("open", "1024"), ("open", "3072"), ("closed", "3072")):
        for pattern in ("dense", "0.3", "0.6"):
            folder = make_qa(tmp_path, pattern, hits(0.5), book=book, context=context)
            if (book, pattern) == ("closed", "dense"):  # earlier records say a length here too
                run = json.loads((folder / "run.json").read_text())
                assert run["axes"]["context"] == "none"
                (folder / "run.json").write_text(json.dumps(run | {"axes": run["axes"] | {"context": "3072"}}))
    table = claims.claims(cells_of(tmp_path))
    pairs = table.loc[table["claim"] == "mean gap", ["a", "b"]].values.tolist()
    assert sorted(pairs) == [
        ["trivia_qa closed none", "trivia_qa open context 1024"],
        ["trivia_qa closed none", "trivia_qa open context 3072"],
        ["trivia_qa open context 1024", "trivia_qa open context 3072"],
    ]


# --- claims ----------------------------------------------------------------------------------------------------------


def test_gaps_are_paired_by_question_and_methods_are_compared_at_one_place(tmp_path):
    grid(tmp_path, methods=["magnitude", "wanda"])
    table = claims.claims(cells_of(tmp_path))
    gaps = table[table["claim"] == "mean gap"]
    assert sorted(gaps[["curve", "a", "b"]].values.tolist()) == sorted(
        [[f"one-shot, {kind}", "trivia_qa closed", "trivia_qa open"]
         for kind in ("magnitude", "wanda", "N:M, magnitude", "N:M, wanda")]
        + [[f"one-shot, {kind}", f"trivia_qa {book}, magnitude", f"trivia_qa {book}, wanda"]
           for kind in ("unstructured", "N:M") for book in ("closed", "open")]
    )  # fmt: skip
    assert set(gaps["questions"]) == {MANY} and gaps["paired"].all() and set(gaps["remark"]) == {"2 sparsities"}
    one = table[(table["claim"] == "gap") & (table["curve"] == "one-shot, magnitude") & (table["pattern"] == "0.6")]
    (gap,) = one.to_dict("records")
    rows = {(b, p): hits(s) for b, p, s in [("o", 0, 0.8), ("o", 1, 0.56), ("c", 0, 0.5), ("c", 1, 0.2)]}
    draw = np.random.default_rng(3).integers(0, MANY, (20_000, MANY))
    mean = {key: row[draw].mean(axis=1) for key, row in rows.items()}
    spread = mean["c", 1] / mean["c", 0] - mean["o", 1] / mean["o", 0]
    assert gap["estimate"] == pytest.approx(0.4 - 0.7)
    assert [gap["low"], gap["high"]] == pytest.approx(np.percentile(spread, [2.5, 97.5]), abs=0.006)
    text = tables.claims(table)
    assert "trivia_qa closed lost more" in text and f"over {MANY} questions, one run" in text
    assert tables.DECIDED in text and "one seed" not in text.split("### ")[1]
    fall = table[table["claim"] == "monotone fall"].iloc[0]
    assert fall["share"] == pytest.approx(1) and fall["questions"] == MANY


def test_books_that_were_asked_other_questions_are_not_paired(tmp_path):
    for book, first in (("open", 0), ("closed", MANY)):
        for pattern, share in (("dense", 0.8), ("0.3", 0.6), ("0.6", 0.6)):
            make_qa(tmp_path, pattern, hits(share, seed=3), book=book, ids=range(first, first + MANY))
    table = claims.claims(cells_of(tmp_path))
    mean = table[table["claim"] == "mean gap"].iloc[0]
    assert not mean["paired"] and mean["estimate"] == 0 and mean["low"] < -0.02 and mean["high"] > 0.02
    assert "questions not paired" in tables.claims(table) and "not decided" in tables.claims(table)


# --- figures, tables, the paper's curves -----------------------------------------------------------------------------


def drawn(figure, panel=0):
    return {line.get_label(): line.lines[0].get_data()[1] for line in figure.axes[panel].containers}


def test_methods_have_panels_and_books_are_the_lines(tmp_path):
    grid(tmp_path)
    points = summary.points(cells_of(tmp_path, "two_way_containment"))
    figure = figures.draw(points, published.beside(points), False, "change")
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == 2 * [f"trivia_qa, {method} (two way containment)" for method in METHODS]
    assert [len(panel.containers) for panel in figure.axes] == 6 * [2]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[:3] == ["dense", "one-shot, book closed", "one-shot, book open"]
    assert figure.get_suptitle().split("\n") == [
        "decoder", "context 3072 where it applies, shots 0", "two way containment: an empty answer scores 1",
    ]  # fmt: skip
    assert figure.axes[0].get_ylabel() == f"(value - dense) / dense, %,\n95 % interval over {MANY} questions"
    closed, opened = (curve.lines[0].get_data()[1] for curve in figure.axes[0].containers)
    assert closed == pytest.approx([-30, -60]) and opened == pytest.approx([-15, -30])
    caps = [cap.get_ydata() for curve in figure.axes[0].containers for cap in curve.lines[1]]
    assert (caps[0] < closed).all() and (caps[1] > closed).all()
    chance = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert chance[0] == pytest.approx(100 * (0.05 / 0.5 + 0.05 / 0.8) / 2 - 100)


def test_one_book_has_the_methods_as_lines_of_one_panel(tmp_path):
    for pattern in ("dense", "0.3"):
        for method in METHODS if pattern != "dense" else ["magnitude"]:
            make_qa(tmp_path, pattern, hits(0.5), method=method)
    figure = figures.draw(summary.points(cells_of(tmp_path)), None, False)
    assert [panel.get_title() for panel in figure.axes] == ["trivia_qa (containment)"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[1:4] == [f"one-shot, {method}" for method in METHODS]


def test_a_perplexity_stands_on_a_logarithmic_axis_of_its_own_and_is_claimed_the_right_way_round(tmp_path):
    grid(tmp_path, methods=["wanda"])
    make_sweep(tmp_path, ["sst2"], ["0.5"], [1], lambda *_: 0.1)
    cells = cells_of(tmp_path, "perplexity")
    points = summary.points(cells)
    for scale, first, kind in (("share", 100 * (20 + 270) / 20, "log"), ("change", 100 * 270 / 20, "symlog")):
        figure = figures.draw(points, None, False, scale)
        glue, qa = figure.axes[:2]
        assert (glue.get_yscale(), qa.get_yscale()) == ("linear", kind)
        assert qa.containers[0].lines[0].get_ydata()[0] == pytest.approx(first)
        assert "more is worse" in qa.get_ylabel() and "more is worse" not in glue.get_ylabel()
        assert figures.OUTSIDE not in [text.get_text() for text in figure.legends[0].get_texts()]
    points["ratio"] = points["ratio"].where(points["pattern"] != "0.6", 0.0)  # a rate that has fallen to 0
    assert figures.draw(points, None, False).axes[1].get_yscale() == "symlog"
    qa = claims.claims(cells[cells["family"] == "qa"])
    loss = qa[qa["claim"] == "loses 5 %"].iloc[0]
    assert loss["remark"].startswith("between dense and 0.3") and pd.isna(loss["low"])


def test_the_paper_s_open_and_closed_book_stand_beside_the_same_method_metric_and_prompt(tmp_path):
    grid(tmp_path)
    points = summary.points(cells_of(tmp_path, "two_way_containment"))
    theirs = published.beside(points)
    assert set(theirs["model"]) == {"Vicuna-7B"} and theirs["value"].notna().sum() == 141
    found = theirs.set_index(["place", "kind", "pattern"])["value"]
    assert found[(("task", "trivia_qa"), ("book", "closed")), "magnitude", "50"] == pytest.approx(100 * (1 - 0.794))
    assert found[(("task", "trivia_qa"), ("book", "open")), "N:M, wanda", "4:8"] == pytest.approx(100 * (1 - 0.19))
    figure = figures.draw(points, theirs, False, "change")
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.9]
    assert [line.get_ydata()[0] for line in thin] == [0, 0] and len({line.get_color() for line in thin}) == 2
    assert published.beside(summary.points(cells_of(tmp_path, "containment"))).empty
    for more in ({"shots": "5"}, {"context": "1024"}, {"task": "nq_open"}):
        root = tmp_path / "-".join(more)
        grid(root, methods=["wanda"], patterns=["0.3"], **more)
        beside = published.beside(summary.points(cells_of(root, "two_way_containment")))
        books = {dict(place)["book"] for place in beside["place"]}
        assert books == ({"closed"} if "context" in more else set())  # closed book reads no text


def test_the_command_writes_the_change_beside_other_families(tmp_path, capsys):
    grid(tmp_path / "runs", methods=["wanda"])
    make_sweep(tmp_path / "runs", ["sst2"], ["0.3", "0.6"], [1, 2], lambda task, sparsity, seed: sparsity / 5)
    argv = [str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--scale", "change", "--published"]
    assert report.main(argv) == 0
    text = (tmp_path / "out/summary.md").read_text()
    assert (
        "| change from dense | std | n | above chance | std | interval of the metric | interval change from dense |"
        in text
    )
    assert "| sst2 | 100 % |  | sparse transfer, unstructured | 0.6 | accuracy | 0.7850 | 0.0071 | 2 | -13.3% |" in text
    assert "| closed | one-shot, wanda | 0.6 | containment | 0.2000 |  | 1 | -60.0% |" in text
    assert f"bootstraps over {MANY} questions, paired" in text
    assert "Everywhere in qa: context 3072 where it applies, shots 0." in text
    table = pd.read_csv(tmp_path / "out/summary.csv", dtype={"shots": str})
    qa = table[table["family"] == "qa"]
    assert set(qa["questions"]) == {MANY} and set(qa["shots"]) == {"0"} and qa["ratio_low"].notna().sum() == 8
    page = (tmp_path / "out/report.html").read_text()
    assert "(value - dense) / dense, %" in page and '"base":0' in page
