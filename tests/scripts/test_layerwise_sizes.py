"""The script that measures models of real sizes, on one of no size."""

import json

import pytest

import layerwise_sizes as sizes


def measured(method, *argv):
    asked = sizes.parse(["--shape", "tiny", "--nsamples", "2", "--seqlen", "16", "--here", method, *argv])
    return asked, sizes.measure(asked)


@pytest.mark.parametrize("method", sizes.METHODS)
def test_a_model_is_made_and_pruned(method):
    asked, found = measured(method, "--sparsity", "2:4")
    assert found["blocks"] == found["of_blocks"] == 3 and found["masked"] == 3 * (2 * 64 * 96 + 96 * 64 + 3 * 64 * 64)
    assert found["tokens"] == (0 if method == "magnitude" else 32) and found["findings"]["damping"] == {}
    assert 0 < found["prune"] < found["seconds"] and (found["calibrate"] > 0) == (method != "magnitude")
    line = sizes.table([sizes.computed(asked, found)]).splitlines()[-1]
    assert line.startswith(f"| tiny | {method} | 3 of 3 |")


def test_what_is_computed_of_a_part():
    asked = sizes.parse(["--only_blocks", "1", "--computed_tokens", "1000"])
    found = {"blocks": 1, "of_blocks": 4, "tokens": 100, "seconds": 20.0, "cpu_seconds": 10.0, "calibrate": 12.0}
    found = sizes.computed(asked, found)
    assert found["all_blocks"] == 40 and found["all_blocks_all_tokens"] == 4 * (6 * 10 + 4)


def test_a_method_runs_in_a_process_of_its_own(tmp_path, capsys):
    out = tmp_path / "sizes.json"
    argv = ["--shape", "tiny", "--nsamples", "1", "--seqlen", "8", "--methods", "wanda", "--only_blocks", "1"]
    assert sizes.main([*argv, "--out", str(out)]) == 0
    (found,) = json.loads(out.read_text())
    assert (found["blocks"], found["of_blocks"]) == (1, 3) and found["peak_of_process"] > 0
    assert "| tiny | wanda | 1 of 3 | 8 |" in capsys.readouterr().out
