"""Texts as they are read, windows that are drawn from them, and perplexity against the formula."""

import gzip
import hashlib
import json
import math

import pytest
import torch
from letters import make_model, make_tokenizer

from junkdna.errors import UserError
from junkdna.families.qa.corpus import Corpus, perplexity, read_text, samples
from junkdna.families.qa.corpus import windows as cut

LINES = ["abcdefghijk" * 3, "", "kjihg fedcba" * 4, "abc", "  "]


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "text.txt"
    made.write_bytes("\r\n".join(LINES).encode())
    return str(made)


def corpus(documents, between="\n"):
    return Corpus("made up", documents, between, "", "made up")


def test_a_file_is_lines_to_calibrate_with_and_one_text_to_score(path):
    lines, text = read_text(path), read_text(path, "perplexity")
    assert lines.documents == (LINES[0], LINES[2], LINES[3])
    assert text.text == "\r\n".join(LINES) and text.documents == (text.text,)
    assert lines.sha256 == text.sha256 == hashlib.sha256("\r\n".join(LINES).encode()).hexdigest()
    assert (lines.use, text.use, text.source) == ("calibration", "perplexity", path)


def test_a_text_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"^calibration .*: cannot be read: No such .*; give a file, or one of c4"):
        read_text(str(tmp_path / "none"))
    (tmp_path / "empty").write_text(" \n\n")
    with pytest.raises(UserError, match=r"^perplexity .*: has no text$"):
        read_text(str(tmp_path / "empty"), "perplexity")
    with pytest.raises(UserError, match=r"^perplexity c4: is for calibration"):
        read_text("c4", "perplexity")


# --- samples ---------------------------------------------------------------------------------------------------------


def test_long_documents_give_one_window_each():
    long = [(letter + "i") * 20 for letter in "abcdefgh"]
    documents = ["k" * 10, *long, "k" * 9]
    made = samples(make_tokenizer(), corpus(documents), 6, 10, seed=3)
    assert (made.ids.shape, made.ids.dtype, made.taken) == ((6, 10), torch.int64, "documents")
    assert made.available == 6 * 40
    texts = make_tokenizer().batch_decode(made.ids)
    homes = [[number for number, document in enumerate(documents) if text in document] for text in texts]
    assert all(len(home) == 1 for home in homes) and len({home[0] for home in homes}) == 6
    again, other = (samples(make_tokenizer(), corpus(documents), 6, 10, seed=seed) for seed in (3, 4))
    assert torch.equal(made.ids, again.ids) and made.sha256 == again.sha256
    assert not torch.equal(made.ids, other.ids) and made.sha256 != other.sha256


def test_documents_too_short_or_too_few_are_joined():
    documents = ["abcdefghij", "kjihgfedcb", "a" * 30]
    stream = "\n".join(documents)
    for count, length in ((2, 25), (9, 25), (4, len(stream))):  # one is longer than 25, none than the whole
        made = samples(make_tokenizer(), corpus(documents), count, length, seed=0)
        assert (tuple(made.ids.shape), made.taken, made.available) == ((count, length), "stream", len(stream))
        assert all(text in stream for text in make_tokenizer().batch_decode(made.ids))
    assert len(set(make_tokenizer().batch_decode(samples(make_tokenizer(), corpus(documents), 9, 25, 0).ids))) > 4
    assert samples(make_tokenizer(), corpus(documents), 1, 25, 0).taken == "documents"


def test_a_text_shorter_than_one_sample_is_refused():
    """The published loop goes on for ever there."""
    with pytest.raises(UserError, match=r"^calibration made up: has 7 tokens, and one sample has 8"):
        samples(make_tokenizer(), corpus(["abc", "def"]), 128, 8, 0)


# --- perplexity ------------------------------------------------------------------------------------------------------

TEXT = corpus(["abc def ghi jk" * 3, "kjihg fedcba" * 4], "\n\n")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("windows", [None, 2])
def test_perplexity_by_the_formula(kind, windows):
    model, tokenizer = make_model(kind), make_tokenizer()
    ids = tokenizer(TEXT.text)["input_ids"]
    assert len(ids) == 92 - 1  # two newlines are one token
    losses = []
    for start in range(0, 91 - 19, 20)[:windows]:
        window = ids[start : start + 20]
        chances = model(torch.tensor([window])).logits[0].log_softmax(-1)
        losses.append(-sum(chances[i, window[i + 1]].item() for i in range(19)) / 19)
    found = perplexity(model, cut(tokenizer, TEXT, 20, windows))
    assert found.pop("perplexity") == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)
    assert found == {"tokens": len(losses) * 19, "windows": len(losses), "window": 20}
    assert len(losses) == (windows or 4)


def test_logits_are_summed_in_fp32_for_long_windows():
    """Windows longer than the part of the positions that is made fp32 at once; the model is in bf16."""
    model = make_model("llama").bfloat16()
    text = corpus(["abcdefghijk " * 60])
    ids = torch.tensor(make_tokenizer()(text.text)["input_ids"])[:700]
    expected = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1].float(), ids[1:])
    found = perplexity(model, cut(make_tokenizer(), text, 700))["perplexity"]
    assert found == pytest.approx(expected.exp().item(), rel=1e-6)


def test_a_text_shorter_than_a_window_is_refused_and_bad_logits_are_not_hidden():
    model = make_model("gpt2")
    with pytest.raises(UserError, match=r"made up: has 91 tokens, and a window has 92"):
        cut(make_tokenizer(), TEXT, 92)
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(float("nan"))
    assert math.isnan(perplexity(model, cut(make_tokenizer(), TEXT, 20))["perplexity"])


def test_json_lines_give_their_texts(tmp_path):
    """A file of C4 holds texts beside addresses and times: braces would be no text to learn from."""
    path = tmp_path / "c4-train.00000-of-01024.json.gz"
    rows = [{"text": text, "url": "https://example.org"} for text in ("abc\ndef", " ", "ghi")]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert read_text(str(path)).documents == ("abc\ndef", "ghi")
    assert read_text(str(path), "perplexity").text == "abc\ndef\nghi"
    (tmp_path / "no.jsonl").write_text('{"text": "abc"}\n{"content": "def"}\n')
    with pytest.raises(UserError, match=r"no\.jsonl: line 2 has in 'text' null, not a text$"):
        read_text(str(tmp_path / "no.jsonl"))
    (tmp_path / "half.jsonl").write_text('{"text": "\\ud800 abc"}\n')
    with pytest.raises(UserError, match=r"half\.jsonl: line 1 has in 'text' .*half of a character"):
        read_text(str(tmp_path / "half.jsonl"))
