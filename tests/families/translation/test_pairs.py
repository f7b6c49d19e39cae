"""Parallel text: which files of a folder hold it, how strictly they are read, and OPUS-100 from the Hub."""

import gzip
import io
import json
import os
import subprocess
import sys

import pyarrow
import pytest
from pyarrow import parquet

from conftest import SCRIPT
from hub_server import Hub
from junkdna.errors import UserError
from junkdna.families.translation import opus, pairs, parallel

EN = ["Two dogs run.", "A man — in a hat — sings.", "Children play 3:1."]
DE = ["Zwei Hunde rennen.", "Ein Mann – mit Hut – singt.", "Kinder spielen 3:1."]
CS = ["Dva psi běží.", "Muž v klobouku zpívá.", "Děti hrají 3:1."]


def put(folder, **files):
    """Write files: ``train__en__gz`` is train.en.gz; lists of lines, or bytes as they are."""
    for name, content in files.items():
        name = name.replace("__", ".").replace("_TO_", "-")
        content = content if isinstance(content, bytes) else "".join(line + "\n" for line in content).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(folder)


def read(folder, pair="en-de", split="train"):
    return pairs.read(pairs.require(folder, pair, split))


def refusal(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    (fault,) = error.value.faults
    assert fault.setting in ("data_dir", "pair") and "\n" not in str(fault)
    return str(fault)


# --- a pair ----------------------------------------------------------------------------------------------------------


def test_pairs_that_are():
    assert parallel.languages("en-de") == ("en", "de")
    assert parallel.languages("fil-en") == ("fil", "en")
    assert parallel.languages("eng_Latn-deu_Latn") == ("eng_Latn", "deu_Latn")
    assert parallel.languages("ao_AO-en") == ("ao_AO", "en")


@pytest.mark.parametrize(
    "pair, reason",
    [
        ("en", "is not a pair of languages, source-target, such as en-de"),
        ("", "is not a pair"),
        ("en-pt-BR", "is not a pair"),
        ("en-", "'' is not a language; write two or three lower-case letters"),
        ("EN-DE", "'EN' is not a language (did you mean en?)"),
        ("en-../..", "'../..' is not a language"),
        ("en-dé", "'dé' is not a language"),
        ("en-german", "'german' is not a language"),
        ("en- de", "' de' is not a language"),
        ("en-en", "names one language twice"),
    ],
)
def test_pairs_that_are_none(pair, reason):
    with pytest.raises(ValueError) as error:
        parallel.languages(pair)
    assert str(error.value).startswith(reason)


# --- finding ---------------------------------------------------------------------------------------------------------

ROWS = [{"translation": {"en": a, "de": b}, "id": i} for i, (a, b) in enumerate(zip(EN, DE))]
FLAT = [{"de": b, "en": a} for a, b in zip(EN, DE)]
FORMS = {
    "named": {"train__en_TO_de__en": EN, "train__en_TO_de__de": DE},
    "named the other way": {"train__de_TO_en__en": EN, "train__de_TO_en__de": DE},
    "packed": {"train__en_TO_de__en__gz": EN, "train__en_TO_de__de__gz": DE},
    "one side packed": {"train__en_TO_de__en": EN, "train__en_TO_de__de__gz": DE},
    "aligned": {"train__en": EN, "train__de": DE, "train__cs": CS},
    "aligned and packed": {"train__en__gz": EN, "train__de__gz": DE},
    "json": {"train__en_TO_de__jsonl": [*map(json.dumps, ROWS), ""]},
    "json, flat, the other way, packed": {"train__de_TO_en__jsonl__gz": map(json.dumps, FLAT)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form, tmp_path):
    folder = put(tmp_path, **FORMS[form])
    found = read(folder)
    assert (found.source, found.target) == (tuple(EN), tuple(DE))
    assert (len(found), found.lines, found.empty) == (3, 3, 0)
    assert found.fingerprint == parallel.Parallel(tuple(EN), tuple(DE), "elsewhere", 9, 6).fingerprint
    assert all(name in found.origin for name in os.listdir(folder) if "cs" not in name)
    back = read(folder, "de-en")
    assert (back.source, back.target) == (found.target, found.source) and back.fingerprint != found.fingerprint
    assert pairs.find(folder, "en-de", "test") is None and pairs.find(folder, "en-fr", "train") is None
    assert "en-de" in pairs.available(folder) or "de-en" in pairs.available(folder)


@pytest.mark.parametrize("spelling", ["validation", "valid", "val", "dev"])
def test_every_spelling_of_validation(spelling, tmp_path):
    folder = put(tmp_path, **{f"{spelling}__en": EN, f"{spelling}__de": DE, "train__en": EN, "train__de": CS})
    assert read(folder, split="validation").target == tuple(DE)
    assert pairs.available(folder) == {"en-de": {"train", "validation"}}


def test_a_models_own_codes(tmp_path):
    folder = put(tmp_path, **{"test__eng_Latn_TO_deu_Latn__eng_Latn": EN, "test__eng_Latn_TO_deu_Latn__deu_Latn": DE})
    assert read(folder, "deu_Latn-eng_Latn", "test").source == tuple(DE)
    assert pairs.available(folder) == {"eng_Latn-deu_Latn": {"test"}}


@pytest.mark.parametrize(
    "files, listed",
    [
        ({**FORMS["named"], **FORMS["named the other way"]}, "train.en-de.en, train.en-de.de, train.de-en.en"),
        ({**FORMS["named"], **FORMS["aligned"]}, "train.en-de.en, train.en-de.de, train.en, train.de"),
        ({**FORMS["named"], **FORMS["json"]}, "train.en-de.en, train.en-de.de, train.en-de.jsonl"),
        ({**FORMS["named"], "train__en_TO_de__de__gz": DE}, "train.en-de.en, train.en-de.de, train.en-de.de.gz"),
        ({**FORMS["json"], "train__en_TO_de__jsonl__gz": []}, "train.en-de.jsonl, train.en-de.jsonl.gz"),
    ],
)
def test_the_same_rows_twice_are_refused(files, listed, tmp_path):
    folder = put(tmp_path, **files)
    text = f"data_dir {folder}: has the train rows of en-de more than once: {listed}"
    assert refusal(pairs.find, folder, "en-de", "train").startswith(text)
    folder = put(tmp_path, val__en=EN, val__de=DE, dev__en=EN, dev__de=DE)
    assert "more than once: val.en, val.de, dev.en, dev.de; " in refusal(pairs.find, folder, "en-de", "validation")


@pytest.mark.parametrize(
    "files, reason",
    [
        ({"train__en_TO_de__en": EN}, "has train.en-de.en but not the other side, train.en-de.de"),
        ({"train__de_TO_en__de__gz": DE}, "has train.de-en.de.gz but not the other side, train.de-en.en"),
        ({"train__en": EN}, "has train.en but not the other side, train.de"),
        ({"train__en_TO_de__en": EN, "train__de": DE}, "has train.en-de.en but not the other side, train.en-de.de"),
    ],
)
def test_a_missing_side_is_named(files, reason, tmp_path):
    folder = put(tmp_path, **files)
    assert refusal(pairs.find, folder, "en-de", "train") == f"data_dir {folder}: {reason}"


def test_a_file_that_serves_another_pair_lacks_no_side(tmp_path):
    folder = put(tmp_path, train__en=EN, train__cs=CS, **{"train__en_TO_gu__en": EN, "train__en_TO_gu__gu": DE})
    assert pairs.find(folder, "en-de", "train") is None
    assert read(folder, "gu-en").source == tuple(DE)


def test_what_the_folder_has_instead(tmp_path):
    many = {f"train__{code}": EN for code in ("en", "de", "cs", "fr", "it", "txt")}
    folder = put(tmp_path, **many, **{"test_2016_flickr__en": EN, "README__md": b"x"})
    text = refusal(pairs.require, folder, "en-gu", "train")
    begins = f"data_dir {folder}: has no rows of en-gu; its pairs: en-cs, en-de, en-fr, en-it, cs-de, "
    wanted = "train.en-gu.en and train.en-gu.gu, or train.en and train.gu, or train.en-gu.jsonl, each also as .gz"
    assert text.startswith(begins) and text.endswith(f"; wanted are {wanted}")
    text = refusal(pairs.require, folder, "de-en", "test")
    assert "has no test rows of de-en, only train (and test_2016_flickr.en); wanted are test.de-en.de and " in text
    (tmp_path / "empty").mkdir()
    names = ("train__en_TO_en__en", "train__en_TO_de__fr", "train__jsonl", "train__gz")
    put(tmp_path / "empty", **dict.fromkeys(names, EN))
    assert "has no parallel text; wanted are " in refusal(pairs.require, str(tmp_path / "empty"), "en-de", "train")


def test_folders_and_files_that_are_none(tmp_path):
    assert refusal(pairs.find, str(tmp_path / "x"), "en-de", "train").endswith("x: No such file or directory")
    assert refusal(pairs.find, put(tmp_path, x=EN) + "/x", "en-de", "train").endswith("x: Not a directory")
    assert "embedded null byte" in refusal(pairs.find, "a\0b", "en-de", "train")
    (tmp_path / "test.en").mkdir()
    folder = put(tmp_path, test__de=DE)
    assert refusal(pairs.find, folder, "en-de", "test") == f"data_dir {folder}/test.en: is not a file"
    (tmp_path / "train.en").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "train.de")  # reading one would wait for ever
    assert "is not a file" in refusal(pairs.find, folder, "en-de", "train")
    assert "is not a file" in refusal(pairs.find, folder, "de-en", "train")


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_text_is_as_the_file_has_it(tmp_path):
    odd = ["a\u2028b", "a\x0bb\x0c", "\x85a\x1c", " a\tb ", "a\rb", "\u00a0a", "e\u0301", "\U0001f600"]
    folder = put(tmp_path, train__en="\r\n".join(odd).encode("utf-8-sig"), train__de=[f"d{i}" for i in range(8)])
    found = read(folder)
    assert found.source == tuple(odd) and found.target == tuple(f"d{i}" for i in range(8))
    assert read(put(tmp_path, train__en=b"a\n\nb\n\n", train__de=b"1\n2\n3\n4")).lines == 4


def test_the_shapes_of_real_data(tmp_path):
    """Captions aligned over four languages and packed, as Multi30k's; lines that end in CRLF, as NTREX-128's."""
    captions = {
        "en": ["A man in an orange hat starring at something.", "People are fixing the roof of a house."],
        "de": ["Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.", "Leute Reparieren das Dach eines Hauses."],
        "fr": ["Un homme avec un chapeau orange regardant quelque chose.", "Des gens réparent le toit d'une maison."],
        "cs": ["Muž v oranžové čepici se na něco dívá.", "Lidé opravují střechu domu."],
    }
    for split in ("train", "val"):
        folder = put(tmp_path, **{f"{split}__{code}__gz": lines for code, lines in captions.items()})
    both = {"train", "validation"}
    assert pairs.available(folder) == dict.fromkeys(["cs-de", "cs-fr", "de-fr", "en-cs", "en-de", "en-fr"], both)
    for pair in ("en-de", "cs-fr"):
        found = read(folder, pair, "validation")
        assert [found.source, found.target] == [tuple(captions[code]) for code in pair.split("-")]
    news = {"en": "Welsh AMs worried\r\n", "gu": "વેલ્શ AM ચિંતિત છે\r\n", "my": "ေ၀းလ္ရွိ AM မ်ား\r\n"}
    folder = put(tmp_path, **{f"test__{code}": (line * 3).encode() for code, line in news.items()})
    assert read(folder, "en-gu", "test").target == ("વેલ્શ AM ચિંતિત છે",) * 3
    assert read(folder, "my-en", "test").source == ("ေ၀းလ္ရွိ AM မ်ား",) * 3


def test_rows_without_text_are_counted_and_kept_out(tmp_path):
    en = ["a", "", "c", " \t", "\u200b", "f", "\ufeff\u00a0", "h"]
    de = ["1", "2", "\r", "4", "5", "\u3000", "7", "8"]
    found = read(put(tmp_path, train__en=en, train__de=de))
    assert (found.source, found.target, found.lines, found.empty) == (("a", "h"), ("1", "8"), 8, 6)
    rows = [json.dumps({"en": a, "de": b}) for a, b in zip(en, de)]
    (tmp_path / "json").mkdir()
    packed = read(put(tmp_path / "json", train__en_TO_de__jsonl=rows))
    assert (packed.lines, packed.empty, packed.fingerprint) == (8, 6, found.fingerprint)
    assert len(found.first(1)) == 1 and found.first(1).lines == 8 and found.first(1).origin == found.origin
    assert found.first(None) is found and found.first(9) is found and len(found.first(0)) == 0
    assert found.first(1).fingerprint != found.fingerprint


@pytest.mark.parametrize(
    "en, de, reason",
    [
        (EN, DE[:2], "en and FOLDER/train.de: have 3 and 2 lines; line n of one must be the translation of line n of"),
        (b"a\n\n", b"b\n", "en and FOLDER/train.de: have 2 and 1 lines"),
        (b"", DE, "en and FOLDER/train.de: have 0 and 3 lines"),
        (b"", b"", "en and FOLDER/train.de: has no rows"),
        (b"\xef\xbb\xbf", b"", "en and FOLDER/train.de: has no rows"),
        (b"a\n\nc\n", b"\nb\n \n", "en and FOLDER/train.de: has no row with text on both sides (3 rows)"),
        (b"a\nb\xe9c\n", DE, "en: cannot be read: line 2 is not UTF-8 (byte 0xe9); save it as UTF-8"),
        (b"a\n\xed\xa0\x80\n", DE, "en: cannot be read: line 2 is not UTF-8"),
        ("a\n".encode("utf-16"), DE, "en: cannot be read: it is UTF-16; save it as UTF-8"),
        (b"a line\nb\0\n", DE, "en: cannot be read: line 2 holds a NUL byte"),
        (gzip.compress(b"a\n", mtime=0), DE, "en: cannot be read: "),
    ],
)
def test_sides_that_are_wrong(en, de, reason, tmp_path):
    folder = put(tmp_path, train__en=en, train__de=de)
    assert refusal(read, folder).startswith(f"data_dir {folder}/train.{reason}".replace("FOLDER", folder))


def test_damaged_gzip_files(tmp_path):
    put(tmp_path, train__de__gz=DE)
    for content in (b"a\n", gzip.compress(b"a\n" * 99)[:-9], gzip.compress(b"a\n") + b"more"):
        (tmp_path / "train.en.gz").write_bytes(content)
        assert "train.en.gz: cannot be read: it is not a complete gzip file" in refusal(read, str(tmp_path))
    (tmp_path / "train.en.gz").write_bytes(b"")  # a download that was interrupted at once
    assert "train.de.gz: have 0 and 3 lines" in refusal(read, str(tmp_path))
    (tmp_path / "train.en.gz").write_bytes(gzip.compress(b"a\nb\n") + gzip.compress(b"c\n"))
    assert read(str(tmp_path)).source == ("a", "b", "c")


GOOD = json.dumps(FLAT[0])


@pytest.mark.parametrize(
    "line, reason",
    [
        ("{", "cannot be read: line 3 is not JSON: "),
        ("[1]", "cannot be read: line 3 is not a JSON object (json lines: one object a line)"),
        pytest.param("[" * 99_999, "cannot be read: line 3 is nested too deeply", id="nested"),
        ('{"en": "a", "de": "b", "en": "c"}', "cannot be read: line 3 has 'en' twice"),
        ('{"en": "a"}', "row 2 has no 'de' (its keys: en) (line 3)"),
        ('{"translation": {"de": "b"}, "en": "a"}', "row 2 has no 'en' (its keys: de) (line 3)"),
        ('{"translation": ["a", "b"]}', "row 2 has no 'en' (its keys: translation) (line 3)"),
        ('{"en": "a", "de": null}', "row 2 has in 'de' null where a text should be (line 3)"),
        ('{"en": ["a"], "de": "b"}', "row 2 has in 'en' a list where a text should be (line 3)"),
        ('{"en": "a", "de": "\\ud83d"}', "row 2 holds \\ud83d, half of a character"),
    ],
)
def test_a_wrong_row_of_json_is_named(line, reason, tmp_path):
    folder = put(tmp_path, train__en_TO_de__jsonl=[GOOD, "", line])
    assert refusal(read, folder).startswith(f"data_dir {folder}/train.en-de.jsonl: {reason}")
    assert "has no rows" in refusal(read, put(tmp_path, train__en_TO_de__jsonl=b"\n \n"))


# --- OPUS-100 --------------------------------------------------------------------------------------------------------


def test_the_languages_of_opus():
    assert len(opus.LANGUAGES) == 100 and len(opus.WITHOUT_ENGLISH) == 15
    assert [opus.config(pair) for pair in ("en-de", "de-en", "en-gu", "gu-en", "zh-fr")] == [
        "de-en", "de-en", "en-gu", "en-gu", "fr-zh",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "pair, reason",
    [
        ("en-fil", "OPUS-100 has no language 'fil'"),
        ("eng_Latn-de", "OPUS-100 has no language 'eng_Latn' (did you mean en?); it knows two-letter codes: af am "),
        ("de-cs", "OPUS-100 has pairs with English, and for testing ar-de, "),
    ],
)
def test_pairs_that_opus_does_not_have(pair, reason):
    assert refusal(opus.read, pair, "test").startswith(f"pair {pair}: {reason}")


READ = """
import json, sys
from dataclasses import asdict
from junkdna.errors import UserError
from junkdna.families.translation import opus

def read(*arguments):
    try:
        return asdict(opus.read(*arguments))
    except UserError as error:
        return str(error)

wanted = [("en-de", "test"), ("de-en", "test"), ("en-de", "test", 2), ("en-gu", "validation"), ("en-de", "train")]
print(json.dumps([read(*one) for one in wanted]))
"""


def packed(rows):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def test_opus_from_the_hub_and_from_the_cache(tmp_path):
    rows = [
        {"translation": {"de": d, "en": e}} for d, e in [("a", "1"), (" ", "2"), (None, "3"), ("d", "4"), ("e", "5")]
    ]
    empty = [{"translation": {"en": "", "gu": "x"}}]
    files = {
        "de-en/test-00000-of-00002.parquet": packed(rows[:3]),
        "de-en/test-00001-of-00002.parquet": packed(rows[3:]),
        "de-en/train-00000-of-00002.parquet": packed(rows),  # and the other part is missing
        "en-gu/validation-00000-of-00001.parquet": packed(empty),
    }
    with Hub() as server:
        server.add(f"datasets/{opus.NAME}", files)
        commit = server.commit(f"datasets/{opus.NAME}")
        online = run(server.endpoint, tmp_path)
    (forward, backward, two, gu, train) = online
    assert (forward["source"], forward["target"]) == (["1", "4", "5"], ["a", "d", "e"])
    assert (backward["source"], backward["target"]) == (forward["target"], forward["source"])
    assert forward["origin"] == f"Helsinki-NLP/opus-100 at {commit}, de-en/test-*"
    assert (forward["lines"], forward["empty"]) == (5, 2)
    assert two["source"] == ["1", "4"] and (two["lines"], two["empty"]) == (4, 2)
    assert gu.startswith("pair en-gu: ") and "has no row with text on both sides" in gu
    assert train.startswith("pair en-de: ") and train.endswith("; give --data_dir with files of your own")
    assert "not all of its parts" in train
    offline = run("http://127.0.0.1:9", tmp_path)
    assert offline[:4] == online[:4] and "cannot be reached" in offline[4]


def run(endpoint, cache):
    """What a process of its own reads, with a Hub and a cache."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "PYTHONPATH": str(SCRIPT.parents[1])}
    del environment["HF_HUB_OFFLINE"]
    done = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
