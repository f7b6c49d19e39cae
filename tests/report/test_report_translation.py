"""The report of runs that translate: intervals of BLEU and chrF++ over sentences, the paper's Setting 2 beside them."""

import json

import numpy as np
import pytest

from junkdna.families.translation import scores
from junkdna.report import answers, claims, collect, corpus_scores, figures, published, questions, summary, tables
from made_up_runs import make_translation

MANY = 120
WORDS = {"en": "the a dog cat sees hears small old", "de": "der ein Hund Katze sieht hört klein alt",
         "gu": "te ek kutaro biladi juve sambhale nanu junu"}  # fmt: skip


def text(language, seed=0, count=MANY):
    """Sentences; those of one number mean the same in all languages."""
    draw = np.random.default_rng(seed)
    words = WORDS[language].split()
    return [" ".join(words[i] for i in draw.integers(0, 8, draw.integers(4, 9))) for _ in range(count)]


def spoilt(sentences, share, seed=1):
    """The sentences with this share of the words left wrong."""
    draw = np.random.default_rng(seed)
    return [" ".join("x" if draw.random() < share else word for word in one.split()) for one in sentences]


def texts(pair, share, seed=0):
    one, other = pair.split("-")
    sides = {language: text(language, seed) for language in (one, other)}
    return {
        f"{a}-{b}": (sides[a], spoilt(sides[b], share, ord(a[0])), sides[b]) for a, b in ((one, other), (other, one))
    }


def cells_of(root, metric=None):
    return summary.normalise(collect.collect([str(root)], metric)[0])


def grid(root, shots="zero-shot", pairs=(("en-de", 0.4), ("en-gu", 0.9)), seed=0, **more):
    """Every pair loses this share of its words for every unit of sparsity."""
    for pair, fall in pairs:
        for pattern in ("dense", "0.3", "0.6", "4:8"):
            sparsity = 0 if pattern == "dense" else 0.5 if ":" in pattern else float(pattern)
            make_translation(root, pattern, texts(pair, 0.1 + fall * sparsity, seed), pair=pair, shots=shots, **more)


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_the_interval_is_that_of_the_corpus_score_of_resampled_sentences_with_all_their_directions(metric, tmp_path):
    runs = [texts("en-de", share) for share in (0.1, 0.4)]
    for pattern, run in zip(("dense", "0.6"), runs):
        make_translation(tmp_path, pattern, run)
    point = summary.points(cells_of(tmp_path, metric)).set_index("pattern").loc["0.6"]
    draw = np.random.default_rng(5).integers(0, MANY, (3000, MANY))
    score = corpus_scores.SCORES[metric]
    values = []
    for run in runs:
        counts = [[one[metric] for one in scores.score(o, r, name[3:]).statistics] for name, (_, o, r) in run.items()]
        values.append(np.mean([score(np.array(way)[draw].sum(axis=1)) for way in counts], axis=0))
    _, outputs, references = runs[1]["en-de"]
    counts = np.array([one[metric] for one in scores.score(outputs, references, "de").statistics])[draw[0]].sum(axis=0)
    drawn = scores.score([outputs[i] for i in draw[0]], [references[i] for i in draw[0]], "de")
    assert score(counts) == pytest.approx(getattr(drawn, metric))  # by the library, from the texts
    for name, sample in (("ratio", values[1] / values[0]), ("value", values[1])):
        found = [point[f"{name}_low"], point[f"{name}_high"]]
        assert found == pytest.approx(np.percentile(sample, [2.5, 97.5]), rel=0.02)
    assert point["questions"] == MANY and point["unit"] == "sentences" and point["note"] == ""
    assert point["ratio_low"] < point["ratio"] < point["ratio_high"]


def test_the_score_of_a_file_is_the_run_s_exactly_and_one_direction_is_enough(tmp_path):
    made = texts("en-de", 0.4)
    for name, some in (("both", made), ("one", {"de-en": made["de-en"]})):
        folder = make_translation(tmp_path, "0.5", some, folder=tmp_path / name)
        results = json.loads((folder / "all_results.json").read_text())
        for metric in ("bleu", "chrf"):
            read = answers.read(folder, metric, results[f"eval_{metric}"])
            assert read.counts.shape == (MANY, len(some), 10 if metric == "bleu" else 24) and read.unit == "sentences"
            assert float(read.values(read.counts.sum(axis=0))) == pytest.approx(results[f"eval_{metric}"], rel=1e-12)
        empty = answers.read(folder, "empty", results["eval_empty"])
        assert empty.counts.shape == (MANY, len(some), 1) and empty.value is None


def test_pairs_of_languages_with_the_same_sentences_on_the_first_side_are_paired(tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "DRAWS", 500)
    grid(tmp_path)
    table = claims.claims(cells_of(tmp_path))
    mean = table[(table["claim"] == "mean gap") & table["curve"].str.contains("unstructured")].iloc[0]
    assert (mean["a"], mean["b"]) == ("zero-shot en-de", "zero-shot en-gu")
    assert mean["paired"] and mean["questions"] == MANY and mean["low"] > 0
    said = tables.claims(table)
    assert "zero-shot en-gu lost more" in said and f"over {MANY} sentences, one run" in said
    grid(tmp_path / "other", pairs=[("en-de", 0.4)])
    grid(tmp_path / "other", pairs=[("en-gu", 0.9)], seed=9)
    other = claims.claims(cells_of(tmp_path / "other"))
    assert not other.loc[other["claim"] == "mean gap", "paired"].any()
    assert "sentences not paired" in tables.claims(other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one.pop("statistics"), "line 3: statistics is missing"),
        (lambda one: one["statistics"].pop("bleu"), "line 3: statistics.bleu is missing"),
        (lambda one: one["statistics"].update(bleu=[1, 2, "3"]), "line 3: statistics.bleu is not a list of numbers"),
        (lambda one: one["statistics"]["bleu"].pop(), "statistics.bleu has not as many numbers in every line"),
        (lambda one: one["statistics"]["bleu"].__setitem__(0, 99), f"{2 * MANY} sentences with BLEU of"),
        (lambda one: one.update(id="en-de/0"), "line 3: id 0 occurs twice"),
        (lambda one: one.update(id="en-de/x"), "not the same sentences in each of en-de, de-en"),
        (lambda one: one.update(direction=3), "line 3: direction is not a text"),
    ],
)
def test_a_damaged_file_costs_its_run_the_interval_and_is_named(change, words, tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "DRAWS", 50)
    make_translation(tmp_path, "dense", texts("en-de", 0.1))
    folder = make_translation(tmp_path, "0.5", texts("en-de", 0.4))
    file = folder / "predictions.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    change(lines[2])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    point = summary.points(cells_of(tmp_path)).set_index("pattern").loc["0.5"]
    assert point["questions"] == 0 and point["note"].startswith("no interval: predictions.jsonl")
    assert words in point["note"]


def test_the_figure_has_a_panel_for_each_way_and_a_line_for_each_pair_with_the_paper_s_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "DRAWS", 50)
    grid(tmp_path)
    grid(tmp_path, "few-shot", prune_after_training=True, treatment="one-shot after fine-tuning")
    points = summary.points(cells_of(tmp_path))
    theirs = published.beside(points)
    assert set(theirs["model"]) == {"mBART"} and theirs["value"].notna().sum() == 60
    found = theirs.set_index(["place", "kind", "pattern"])["value"]
    assert found[(("shots", "zero-shot"), ("pair", "en-de")), "unstructured", "10"] == 91.76
    assert found[(("shots", "few-shot"), ("pair", "en-gu")), "unstructured", "60"] == 25.56
    figure = figures.draw(points, theirs, False)
    assert [panel.get_title() for panel in figure.axes[:2]] == [
        "few-shot (bleu; published, labels swapped in one\nof its two panels)",
        "zero-shot (bleu; published, run with wrong\nlanguage tokens)",
    ]
    assert f"95 % interval over {MANY} sentences" in figure.axes[0].get_ylabel()


def test_a_base_within_a_point_of_what_copying_gets_is_not_clearly_above_it(tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "DRAWS", 50)
    made = texts("en-de", 0.4)
    folder = make_translation(tmp_path, "dense", made)
    value = json.loads((folder / "all_results.json").read_text())["eval_bleu"]
    make_translation(tmp_path, "0.5", made, chance=value - 0.9)
    note = summary.points(cells_of(tmp_path)).set_index("pattern").loc["0.5", "note"]
    assert note == f"{summary.WEAK}: seed 0"
