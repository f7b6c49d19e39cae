"""The points of a figure as a file, from which the figure is drawn again."""

import json

import pytest

from junkdna.report import __main__ as report
from junkdna.report import stored
from made_up_runs import make_run, make_sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of two tasks, unstructured and N:M, with a run missing, one collapsed and the published curves."""
    folder = tmp_path_factory.mktemp("stored")
    make_sweep(folder / "runs", ["sst2", "cola"], ["0.3", "0.5", "4:8"], [1, 2], lambda task, s, seed: 0.1 * s * seed)
    make_run(folder / "runs", "sst2", "0.7", 1, 0.5, majority=0.5)
    return folder


@pytest.mark.parametrize("flags", [[], ["--published"], ["--scale", "change"], ["--normalise", "first"]], ids=str)
def test_the_figure_is_drawn_again_to_the_byte(made, tmp_path, flags):
    assert report.main([str(made / "runs"), "--out", str(tmp_path / "out"), *flags]) == 0
    again = tmp_path / "again.png"
    assert report.main([str(tmp_path / "out/points.json"), "--figure", str(again)]) == 0
    assert again.read_bytes() == (tmp_path / "out/curves.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [again.name, "out"]


def test_the_file_holds_one_point_to_a_line_and_says_how_it_was_drawn(made, tmp_path):
    report.main([str(made / "runs"), "--out", str(tmp_path), "--scale", "change"])
    text = (tmp_path / "points.json").read_text()
    found = json.loads(text)
    how = {"kind": stored.KIND, "first": False, "scale": "change", "published": False}
    assert {name: found[name] for name in how} == how
    assert len(found["points"]) == 9 == text.count("\n") - 2  # of cola 4, of sst2 one more
    (lone,) = (point for point in found["points"] if point["pattern"] == "0.7")
    assert lone["ratio_std"] is None and lone["mean"] == 0.5 and lone["note"].startswith("missing: seed 2")


def one_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(("flags", "said"), [
    ([], "a report's points.json takes --figure FILE and nothing else"),
    (["--figure", "x.png", "--scale", "change"], "--scale: a report's points.json takes --figure FILE"),
    (["--figure", "x.png", "--out", "elsewhere"], "--out: a report's"),
    (["--figure", "x.tiff"], "--figure x.tiff: must end in .png, .svg, .pdf"),
    (["runs", "--figure", "x.png"], "points.json runs: a report's"),
])  # fmt: skip
def test_what_goes_with_runs_alone_is_refused(made, tmp_path, monkeypatch, capsys, flags, said):
    report.main([str(made / "runs"), "--out", str(tmp_path)])
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert report.main(["points.json", *flags]) == 2
    assert said in one_line(capsys) and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"kind": "points of a figure"}', '{"kind": "a run", "points": []}']
)
def test_another_file_is_refused(tmp_path, capsys, content):
    (tmp_path / "points.json").write_text(content)
    assert report.main([str(tmp_path / "points.json"), "--figure", str(tmp_path / "x.png")]) == 2
    assert "not the points.json of a report" in one_line(capsys) and not (tmp_path / "x.png").exists()
