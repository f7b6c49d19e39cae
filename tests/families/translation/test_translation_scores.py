"""BLEU and chrF++ as sacreBLEU has them, the statistics that give them, tokenizers, scripts and the copy floor."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from junkdna.families.translation import scores, writing

DE = [
    "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",
    "Leute reparieren das Dach eines Hauses.",
    "Zwei Hunde rennen über die Wiese.",
    "Ja.",
    "3,5 % der »Kinder« – 1.000 & mehr – spielen.",
]
EN = [
    "A man in an orange hat staring at something.",
    "People are fixing the roof of a house.",
    "Two dogs run across the meadow.",
    "Yes.",
    "3.5% of the “children” – 1,000 & more – play.",
]
GU = ["બે કૂતરા ઘાસ પર દોડે છે.", "લોકો ઘરની છત રિપેર કરી રહ્યા છે.", "હા.", "એક માણસ ટોપી પહેરે છે.", "બાળકો રમે છે।"]
MY = ["ခွေးနှစ်ကောင်ပြေးနေသည်။", "လူများအိမ်ခေါင်မိုးပြင်နေကြသည်။", "ဟုတ်ကဲ့။", "အမျိုးသားတစ်ဦး", "ကလေးများ ကစားနေသည်။"]


def worse(texts, seed=0):
    """Texts with words left out, doubled and swapped, and one that is empty."""
    draw, made = random.Random(seed), []
    for text in texts:
        words = [word for word in text.split() for _ in range(draw.choice([0, 1, 1, 1, 2]))]
        if len(words) > 2 and draw.random() < 0.5:
            words[0], words[-1] = words[-1], words[0]
        made.append(" ".join(words))
    return [*made[:-1], ""]


def library(outputs, references, tokenizer):
    """What the library's public calls say; its references are a list of lists."""
    return (
        BLEU(tokenize=tokenizer).corpus_score(outputs, [references]).score,
        CHRF(word_order=2).corpus_score(outputs, [references]).score,
    )


CORPORA = {
    "de": (DE, "13a"),
    "gu": (GU, "13a"),
    "my": (MY, "char"),
    "zho_Hans": (["他 喜欢 ABC 公司。", "是。"] * 3, "zh"),
}


def alone(output, reference, language):
    """What one sentence counts."""
    return scores.score([output], [reference], language).statistics[0]


@pytest.mark.parametrize("language", CORPORA)
def test_scores_are_the_librarys(language):
    references, tokenizer = CORPORA[language]
    references = references * 8
    outputs = [text for seed in range(8) for text in worse(references[: len(references) // 8], seed)]
    found = scores.score(outputs, references, language)
    assert (found.bleu, found.chrf) == library(outputs, references, tokenizer)
    assert 1 < found.bleu < 99 and found.tokenizer.name == tokenizer
    assert scores.score(references, references, language).bleu == pytest.approx(100)
    of_bleu, of_chrf = (
        np.array([row[name] for row in found.statistics]).sum(axis=0).tolist() for name in ("bleu", "chrf")
    )
    assert (len(of_bleu), len(of_chrf)) == (10, 24)
    correct, total, lengths = of_bleu[:4], of_bleu[4:8], of_bleu[8:]
    said = BLEU.compute_bleu(correct, total, *lengths, smooth_method="exp")
    assert said.score == found.bleu
    assert CHRF(word_order=2)._compute_f_score(of_chrf) == found.chrf
    each = [alone(*row, language) for row in zip(outputs, references)]
    assert tuple(each) == found.statistics == tuple(json.loads(json.dumps(each)))


def test_statistics_by_hand():
    found = alone("the cat sat on", "the cat sat down .", "en")
    assert found["bleu"] == [3, 2, 1, 0, 4, 3, 2, 1, 4, 5]
    assert found["chrf"][:3] == [11, 14, 11]  # letters of thecatsaton, of thecatsatdown., in both
    assert found["chrf"][-6:] == [4, 5, 3, 3, 4, 2]  # words, then pairs of words
    assert alone("", "a b", "en")["bleu"] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]


def test_signatures_say_how_it_was_scored():
    found = scores.score(DE, DE, "de")
    assert found.signatures["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    assert found.signatures["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.")
    assert "|tok:char|" in scores.score(MY, MY, "my_MM").signatures["bleu"]
    assert "|tok:13a|" in scores.score(DE, DE, "de").signatures["bleu"]  # after another


@pytest.mark.parametrize(
    "outputs, references", [(DE, [DE]), (DE, DE[0]), (DE[0], DE), ([["Ja."]], ["Ja."]), ([None], ["Ja."])]
)
def test_lists_of_lists_and_texts_alone_are_refused(outputs, references):
    with pytest.raises(TypeError, match="must be a list of texts, one a sentence"):
        scores.score(outputs, references, "de")


def test_lists_of_unequal_length_are_refused():
    for outputs, references in ((DE[:4], DE), (DE, DE[:4]), ([], [])):
        with pytest.raises(ValueError, match=f"{len(outputs)} outputs and {len(references)} references"):
            scores.score(outputs, references, "de")


def test_odd_outputs_are_scored_and_nothing_is_printed(capfd, caplog):
    odd = ["", " ", "\u2028", "a\nb\0c", "�" * 500, "der " * 500, "🙂 .", "\ud800", "&amp;quot;", "x" * 20_000]
    found = scores.score(odd * 6, DE * 12, "de")
    assert 0 < found.bleu < 1 and not found.tokenised
    assert scores.score([""] * 5, DE, "de").bleu == scores.score([""] * 5, DE, "de").chrf == 0
    assert scores.score(["🙂 ."] * 120, DE * 24, "de").bleu == pytest.approx(0, abs=1)
    assert scores.score(DE, [text.replace(".", " .") for text in DE], "de").tokenised
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_the_floor_of_copying():
    floor = scores.copy_floor(EN, DE, "de")
    assert (floor["bleu"], floor["chrf"]) == library(EN, DE, "13a")
    assert floor["in_script"] == 1.0 and floor["empty"] == 0.0
    assert scores.copy_floor(EN, GU, "gu")["in_script"] == 0.0
    assert "in_script" not in scores.copy_floor(EN, DE, "ao_AO")
    assert scores.copy_floor(EN, MY, "my")["bleu"] == library(EN, MY, "char")[0]
    assert set(floor) < {measure.name for measure in scores.MEASURES} and scores.MAIN in floor


# --- tokenizers and scripts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "languages, name",
    [
        ("de en gu ru ar ko ko_KR deu_Latn guj_Gujr hi_IN __cs__ >>fra<< ao_AO zho_Latn", "13a"),
        ("my my_MM mya_Mymr th tha_Thai lo km khm_Khmr bo dzo_Tibt ja ja_XX jpn_Jpan __ja__ >>tha<<", "char"),
        ("zh zh_CN zho_Hans yue_Hant __zh__ >>cmn_Hans<< zh-CN", "zh"),
    ],
)
def test_the_tokenizer_goes_by_the_targets_script(languages, name):
    for language in languages.split():
        assert scores.tokenizer(language).name == name, language
        assert scores.tokenizer(language).reason


def test_no_tokenizer_needs_a_download_or_another_package(tmp_path):
    names = sorted({chosen.name for chosen in (*scores.TOKENIZERS.values(), scores.DEFAULT)})
    assert names == ["13a", "char", "zh"] and set(scores.TOKENIZERS) <= set(writing.SCRIPTS)
    code = "import socket, sys\nsocket.socket.connect = lambda *a: sys.exit('asked the network')\n"
    code += "from junkdna.families.translation import scores\nassert 'sacrebleu' not in sys.modules\n"
    code += "print([scores.score(['a b'], ['a b'], code).chrf for code in ('de', 'my', 'zh', 'ja')])"
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "SACREBLEU": str(tmp_path / "models")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[100.0, 100.0, 100.0, 100.0]\n", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, language, expected",
    [
        ("બે કૂતરા NASA", "gu", True),
        ("Two dogs ઘર", "gu", False),
        ("Two dogs", "gu_IN", False),
        ("બે", "guj_Gujr", True),
        ("Tiếng Việt", "vi", True),
        ("e\u0301te\u0301", "fr", True),  # letters with accents of their own
        ("Москва NATO", "ru", True),
        ("Beograd", "srp_Cyrl", False),
        ("Beograd", "srp_Latn", True),
        ("Beograd", "sr", None),
        ("这是", "zh", True),
        ("ひらがなと漢字", "ja", True),
        ("한국어", "zh", False),
        ("ဒီမှာ John", "my", True),
        ("123 % … 🙂", "de", False),
        ("", "de", False),
        ("aa bb", "ao_AO", None),
        ("aa bb", "", None),
    ],
)
def test_most_letters_are_of_the_script(text, language, expected):
    assert scores.in_script(text, language) is expected


def test_every_language_has_one_script():
    listed = [code for _, codes in writing.SCRIPTS.values() for code in codes.split()]
    assert len(listed) == len(set(listed)) == len(writing.OF_LANGUAGE) > 250
    assert all(len(code) in (2, 3) and code.islower() for code in listed)
    assert set(writing.SAME.values()) <= set(writing.SCRIPTS)
