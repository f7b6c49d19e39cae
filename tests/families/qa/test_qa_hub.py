"""Questions and texts by name, from a stand-in for the Hub, and from the cache without it."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from conftest import SCRIPT
from hub_server import Hub
from junkdna.families.qa.questions import Question
from junkdna.models import hub

pytestmark = pytest.mark.xdist_group("hub of questions")  # what is read is read once

CLOSED = "http://127.0.0.1:9"
READ = """
import json, sys
from dataclasses import asdict
from junkdna.errors import UserError
from junkdna.families.qa import corpus, questions

def read(function, *args):
    try:
        found = function(*args)
    except UserError as error:
        return str(error)
    if isinstance(found, questions.Questions):
        return asdict(found)
    return {"documents": list(found.documents), "source": found.source, "sha256": found.sha256, "text": found.text}

wanted = [(questions.read_hub, "trivia_qa"), (questions.read_hub, "trivia_qa", 1), (questions.read_hub, "nq_open"),
          (questions.read_hub, "nq"), (corpus.read_text, "c4"), (corpus.read_text, "wikitext2"),
          (corpus.read_text, "wikitext2", "perplexity")]
print(json.dumps([read(*one) for one in wanted]))
"""


def trivia(number, value, aliases, wiki, search):
    return {
        "question": f"q{number}?",
        "question_id": f"tc_{number}",
        "question_source": "x",
        "entity_pages": {"title": ["t"] * len(wiki), "wiki_context": wiki},
        "search_results": {"rank": [1] * len(search), "search_context": search},
        "answer": {"value": value, "aliases": aliases, "normalized_aliases": [alias.lower() for alias in aliases]},
    }


TRIVIA = [
    trivia(1, "The Beatles", ["Fab Four", "Beatles"], ["wiki one. ", "wiki two"], ["found one", "found two"]),
    trivia(2, "Paris", ["City of Light"], [], ["found only"]),
    trivia(3, "Rome", ["Rome"], [], []),
]
ROWS = {
    "datasets/mandarjoshi/trivia_qa": {"rc": {"train": b"not to be read", "validation": TRIVIA}},
    "datasets/google-research-datasets/nq_open": {
        "nq_open": {"validation": [{"question": "who?", "answer": ["Ann", "Anna", "Ann"]}]}
    },
    "datasets/Salesforce/wikitext": {
        "wikitext-2-raw-v1": {
            "train": [{"text": ""}, {"text": " = Title = \n"}, {"text": " Some text . \n"}],
            "test": [{"text": " Test . \n"}, {"text": ""}],
        }
    },
}


def files(configs):
    """A repository's parquet files, and the card that says which is which, and how many rows there should be."""
    made, card, infos = {}, [], []
    for config, splits in configs.items():
        for split, rows in splits.items():
            made[f"{config}/{split}-00000-of-00001.parquet"] = rows if isinstance(rows, bytes) else packed(rows)
        card.append({"config_name": config, "data_files": [{"split": s, "path": f"{config}/{s}-*"} for s in splits]})
        sizes = [{"name": s, "num_bytes": 9, "num_examples": len(rows)} for s, rows in splits.items()]
        infos.append({"config_name": config, "splits": sizes, "download_size": 9, "dataset_size": 9})
    card = json.dumps({"configs": card, "dataset_info": infos})
    return made | {"README.md": f"---\n{card}\n---\n".encode()}


def packed(rows):
    """Rows as a parquet file."""
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def read(endpoint, cache):
    """What a process of its own reads, with a Hub and a cache."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "PYTHONPATH": str(SCRIPT.parents[1])}
    del environment["HF_HUB_OFFLINE"]
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What is read with the Hub, then without it, and the commits of its repositories."""
    cache = tmp_path_factory.mktemp("cache")
    with Hub() as server:
        for name, configs in ROWS.items():
            server.add(name, files(configs))
        c4 = {name: {"train": b"", "validation": b""} for name in ("en", "de")}
        server.add("datasets/allenai/c4", {"README.md": files(c4)["README.md"]})
        documents = "".join(json.dumps({"text": text, "url": "x"}) + "\n" for text in ("one\ntwo", "three"))
        server.add("datasets/allenai/c4", {"en/c4-train.00000-of-01024.json.gz": gzip.compress(documents.encode())})
        server.add("datasets/allenai/c4", {"en/c4-train.00001-of-01024.json.gz": b"not to be read"})
        commits = {name: server.commit(name) for name in server.repos}
        online = read(server.endpoint, cache)
    return online, read(CLOSED, cache), commits, read(CLOSED, tmp_path_factory.mktemp("nothing"))


def test_questions_by_name(found):
    (trivia, first, natural, unknown, *_), _, commits, _ = found
    commit = commits["datasets/mandarjoshi/trivia_qa"]
    assert trivia["source"] == f"mandarjoshi/trivia_qa at {commit}, rc/validation-*"
    rows = [Question(row["id"], row["question"], tuple(row["answers"]), row["context"]) for row in trivia["rows"]]
    assert rows == [
        Question("tc_1", "q1?", ("The Beatles", "fab four"), "wiki one. found one"),
        Question("tc_2", "q2?", ("city of light",), "found only"),
        Question("tc_3", "q3?", ("Rome",), ""),
    ]
    assert first["rows"] == trivia["rows"][:1]
    assert natural["rows"] == [{"id": "1", "question": "who?", "answers": ["Ann", "Anna"], "context": None}]
    assert unknown.startswith("task_name nq: unknown task") and unknown.endswith("or give --data_file")


def test_texts_by_name(found):
    *_, c4, train, test = found[0]
    assert c4["documents"] == ["one\ntwo", "three"]
    assert c4["source"].startswith("allenai/c4 at ") and "en/c4-train.00000" in c4["source"]
    assert train["documents"] == ["", " = Title = \n", " Some text . \n"]
    assert test["text"] == " Test . \n\n\n" and test["source"].endswith(", wikitext-2-raw-v1/test-*")
    assert all(made["sha256"] == hashlib.sha256(made["text"].encode()).hexdigest() for made in (c4, train, test))


def test_the_cache_gives_the_same_without_the_hub(found):
    online, offline, _, _ = found
    assert offline == online


def test_a_download_that_lacks_parts_is_not_taken_for_the_whole():
    parts = [Path(f"validation-0000{number}-of-00003.parquet") for number in range(3)]
    assert hub._all_parts(parts) and hub._all_parts([Path("validation.parquet")])
    assert not hub._all_parts(parts[:2]) and not hub._all_parts(parts[2:])


def test_without_hub_and_cache_files_are_asked_for(found):
    *_, nothing = found
    assert all("cannot be reached" in line for number, line in enumerate(nothing) if number != 3)
    assert nothing[0].startswith("task_name trivia_qa: ") and "give --data_file" in nothing[0]
    assert nothing[4].startswith("calibration c4: ") and nothing[6].startswith("perplexity wikitext2: ")
