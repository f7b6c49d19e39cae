"""BLEU and chrF++ of sums: the library's own to the last digits, for many resamples at once."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from junkdna.report import corpus_scores

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "hill", ".", ",", "big", "3.5", "it's"]


@pytest.fixture(scope="module")
def corpus():
    """60 outputs, from hardly alike to alike, their references, and the library's statistics of each."""
    draw = np.random.default_rng(0)
    references = [" ".join(draw.choice(WORDS, draw.integers(1, 14))) for _ in range(60)]
    outputs = []
    for number, text in enumerate(references):
        kept = [word if draw.random() < number / 60 else str(draw.choice(WORDS)) for word in text.split()]
        outputs.append(" ".join(kept[: draw.integers(0, len(kept) + 1)]))
    bleu = [[*row[2:], *row[:2]] for row in BLEU()._extract_corpus_statistics(outputs, [references])]
    chrf = CHRF(word_order=2)._extract_corpus_statistics(outputs, [references])
    return outputs, references, np.array(bleu), np.array(chrf)


def test_resamples_score_as_the_library_scores_their_sentences(corpus):
    outputs, references, bleu, chrf = corpus
    draw = np.random.default_rng(1)
    picks = [draw.integers(0, 60, size) for size in [1] * 60 + [2, 3, 5] * 20 + [60] * 20]
    of_bleu = corpus_scores.bleu(np.array([bleu[picked].sum(axis=0) for picked in picks]))
    of_chrf = corpus_scores.chrf(np.array([chrf[picked].sum(axis=0) for picked in picks]))
    assert of_bleu.shape == of_chrf.shape == (140,)
    assert 0 in of_bleu and 0 in of_chrf and len(set(of_bleu)) > 50
    for picked, *ours in zip(picks, of_bleu, of_chrf):
        said, wanted = [outputs[i] for i in picked], [references[i] for i in picked]
        theirs = [metric.corpus_score(said, [wanted]).score for metric in (BLEU(), CHRF(word_order=2))]
        assert ours == pytest.approx(theirs, abs=1e-9, rel=1e-12)


def test_any_shape_and_kind_of_number(corpus):
    _, _, bleu, chrf = corpus
    assert corpus_scores.bleu(bleu.sum(axis=0)).shape == ()
    assert corpus_scores.bleu(bleu.reshape(3, 20, 10)).shape == (3, 20)
    assert corpus_scores.chrf(chrf.reshape(3, 20, 24)).shape == (3, 20)
    assert corpus_scores.bleu(bleu.sum(axis=0).tolist()) == corpus_scores.bleu(bleu.astype("int32").sum(axis=0))
    assert corpus_scores.bleu(np.zeros((0, 10))).shape == (0,) == corpus_scores.chrf(np.zeros((0, 24))).shape


@pytest.mark.parametrize(
    "sums, expected",
    [
        ([0] * 10, 0.0),
        ([0, 0, 0, 0, 9, 8, 7, 6, 9, 9], 0.0),  # nothing agrees
        ([3, 2, 1, 0, 3, 2, 1, 0, 3, 3], 0.0),  # no output has four words
        ([4, 3, 2, 1, 4, 3, 2, 1, 4, 4], 100.0),
        ([4, 3, 2, 1, 4, 3, 2, 1, 4, 8], 100 / np.e),
        ([4, 0, 0, 0, 4, 4, 4, 4, 4, 4], 100 * (1 / 8 / 16 / 32) ** 0.25),  # halved for each order that lacks
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 7], 0.0),  # nothing is said
    ],
)
def test_bleu_by_hand(sums, expected):
    with np.errstate(all="raise"):  # no warning either
        assert corpus_scores.bleu(np.array(sums)) == pytest.approx(expected, abs=1e-12)


def test_chrf_by_hand():
    with np.errstate(all="raise"):
        assert corpus_scores.chrf(np.zeros(24)) == 0
        assert corpus_scores.chrf([4, 4, 4, 0, 0, 0]) == pytest.approx(
            100
        )  # orders that either side lacks do not count
        assert corpus_scores.chrf([4, 8, 4, 2, 4, 0]) == pytest.approx(100 * 5 * 0.5 * 0.25 / (4 * 0.5 + 0.25))


def test_numbers_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="BLEU needs 10 numbers a sentence, and these are 24"):
        corpus_scores.bleu(np.zeros((5, 24)))
    with pytest.raises(ValueError, match="chrF needs three numbers for each order, and these are 10"):
        corpus_scores.chrf(np.zeros((5, 10)))
