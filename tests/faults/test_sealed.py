"""Every file that is read back is flipped, cut, emptied, swapped: that is noticed, by name, or has no effect."""

import json
import random
import shutil
from collections import Counter

import pytest
import torch
import toy_family

from junkdna import UserError, load_masks
from junkdna.runs import checkpoints, provenance, records, schema
from junkdna.runs import main as runs

WORDS = ["--model_name_or_path", "none", "--rounds", "3"]
FINISHED = ("run.json", "all_results.json", "mask.safetensors")
CHECKPOINT = ("checkpoint.json", "training.pt", "mask.safetensors")
PRODUCTS = ("all_results.json", "mask.safetensors")


@pytest.fixture
def toy(capfd, monkeypatch):
    """Run the toy experiment; returns (exit code, output, errors)."""
    monkeypatch.setattr(provenance, "code_version", lambda: {"version": "test", "commit": None, "changed": None})

    def go(folder, *flags, sparsity="0.3"):
        capfd.readouterr()
        argv = [*WORDS, "--sparsity", sparsity, *flags, "--output_dir", str(folder)]
        code = runs.main(toy_family.FAMILY, argv)
        return (code, *capfd.readouterr())

    return go


@pytest.fixture
def cut(toy, monkeypatch):
    """Leave a run with a checkpoint of its second round."""
    save = checkpoints.Checkpoints.save

    def interrupted(self):
        save(self)
        if self.tuning.step == 2:
            raise KeyboardInterrupt

    def go(folder, *flags, **how):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints.Checkpoints, "save", interrupted)
            assert toy(folder, *flags, **how)[0] == 130
        return folder / "checkpoint-2"

    return go


def damages(content: bytes, other: bytes, draw: random.Random, many: int):
    """Yield (what was done, the damaged content)."""
    yield "emptied", b""
    yield "swapped", other
    yield "longer", content + b"}"
    yield "zeros", bytes(len(content))
    for _ in range(many):
        at, bit = draw.randrange(len(content)), draw.randrange(8)
        yield f"bit {bit} of byte {at}", content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
    for _ in range(max(1, many // 4)):
        yield "cut", content[: draw.randrange(len(content))]


def products(folder):
    return {name: (folder / name).read_bytes() for name in PRODUCTS}


def damage_finished(toy, root, many):
    """Damage the files of a finished run; return how many cases were noticed or shown to have no effect."""
    draw, counted = random.Random(1), Counter()
    assert toy(root / "whole")[0] == 0 and toy(root / "other", sparsity="0.6")[0] == 0
    run = schema.read_run(root / "whole")
    for name in FINISHED:
        content, other = ((root / folder / name).read_bytes() for folder in ("whole", "other"))
        for what, damaged in damages(content, other, draw, many):
            folder = root / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(root / "whole", folder)
            (folder / name).write_bytes(damaged)
            code, out, err = toy(folder)
            assert "Traceback" not in err and (folder / name).read_bytes() == damaged, f"{name}: {what}"
            if code == 0:  # only the layout of the JSON is another
                assert "already done" in out and json.loads(damaged) == run == schema.read_run(folder), (
                    f"{name}: {what}"
                )
                counted["no effect"] += 1
            else:
                assert code == 2 and (name in err or "holds a different run" in err), f"{name}: {what}: {err}"
                assert len(err.splitlines()) == 1
                counted["noticed"] += 1
            if name == "all_results.json":
                assert toy(folder, "--overwrite_output_dir")[0] == 0
                assert products(folder) == products(root / "whole")
    return counted


def damage_checkpoints(toy, cut, root, many):
    draw, counted = random.Random(2), Counter()
    assert toy(root / "whole")[0] == 0
    cut(root / "cut")
    cut(root / "other", sparsity="0.6")
    assert "resumed" in toy(shutil.copytree(root / "cut", root / "damaged"))[1]
    for name in CHECKPOINT:
        content, other = ((root / folder / "checkpoint-2" / name).read_bytes() for folder in ("cut", "other"))
        for what, damaged in damages(content, other, draw, many):
            folder = root / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(root / "cut", folder)
            (folder / "checkpoint-2" / name).write_bytes(damaged)
            code, out, err = toy(folder)
            assert code == 0 and "Traceback" not in err, f"{name}: {what}: {err}"
            assert products(folder) == products(root / "whole"), f"{name}: {what}"
            assert not list(folder.glob("*checkpoint*")), f"{name}: {what}"
            if "resumed" in out:
                assert name == "checkpoint.json" and json.loads(damaged) == json.loads(content), f"{name}: {what}"
                counted["no effect"] += 1
            else:
                assert "starting again" in err and f"checkpoint {folder / 'checkpoint-2'}" in err, f"{name}: {what}"
                counted["noticed"] += 1
    return counted


def damage_masks(root, many):
    """A mask file by itself, as --mask_file and ``load_masks`` take it."""
    from junkdna import save_masks

    draw, counted = random.Random(3), Counter()
    masks = {"a": torch.rand(7, 9) > 0.5, "b.weight": torch.rand(3, 5) > 0.5}
    save_masks(root / "mask", masks)
    save_masks(root / "other", {"a": masks["a"]})
    content = (root / "mask").read_bytes()
    for what, damaged in damages(content, (root / "other").read_bytes(), draw, many):
        (root / "damaged").write_bytes(damaged)
        try:
            found = load_masks(root / "damaged")
        except UserError as error:
            assert str(root / "damaged") in str(error) and len(str(error).splitlines()) == 1
            counted["noticed"] += 1
            continue
        if what == "swapped":  # a whole mask of another run: the record beside it tells them apart
            counted["noticed"] += 1
            continue
        assert found.keys() == masks.keys() and all(found[name].equal(masks[name]) for name in masks), what
        counted["no effect"] += 1
    return counted


def test_some_damage_to_every_file(toy, cut, tmp_path):
    for name in ("finished", "cut", "mask"):
        (tmp_path / name).mkdir()
    counted = damage_finished(toy, tmp_path / "finished", 6)
    counted += damage_checkpoints(toy, cut, tmp_path / "cut", 6)
    counted += damage_masks(tmp_path / "mask", 20)
    assert sum(counted.values()) == 6 * 11 + 29 and counted["noticed"] > 80


@pytest.mark.slow
def test_much_damage_to_every_file(toy, cut, tmp_path):
    for name in ("finished", "cut", "mask"):
        (tmp_path / name).mkdir()
    counted = damage_finished(toy, tmp_path / "finished", 60)
    counted += damage_checkpoints(toy, cut, tmp_path / "cut", 60)
    counted += damage_masks(tmp_path / "mask", 400)
    assert sum(counted.values()) == 6 * 79 + 504 and counted["noticed"] > 800


def test_an_error_and_a_record_that_lost_its_seal_are_refused(toy, tmp_path):
    assert toy(tmp_path / "run")[0] == 0
    path = tmp_path / "run/run.json"
    text = path.read_text()
    for old, new in (('"seal"', '"sdal"'), ('"seed": 42', '"seed": 43'), ('"status": "done"', '"status": "dond"')):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=r"run\.json: is damaged or was changed"):
            records.finished(tmp_path / "run")
        code, _, err = toy(tmp_path / "run")
        assert code == 2 and "run.json: is damaged or was changed" in err
    path.write_text(json.dumps(json.loads(text)))  # laid out anew, not changed
    assert "already done" in toy(tmp_path / "run")[1]


def test_a_damaged_run_of_a_grid_fails_alone(toy, tmp_path):
    assert toy(tmp_path / "1", "--seed", "1")[0] == 0
    damaged = tmp_path / "1/all_results.json"
    damaged.write_bytes(damaged.read_bytes() + b"\n")
    before = {path.name: path.read_bytes() for path in (tmp_path / "1").iterdir()}
    grid = (tmp_path / "{seed}", "--seed", "1", "2")
    assert toy(*grid, "--dry_run")[0] == 0 and not (tmp_path / "2").exists()
    code, out, err = toy(*grid)
    assert code == 1 and records.is_whole(tmp_path / "2")
    assert "1 done, 0 were done before, 1 failed" in out and f"failed: {tmp_path / '1'}: {damaged}: is damaged" in out
    assert "warning: " in err and "delete its folder, or give it alone with --overwrite_output_dir" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "1").iterdir()} == before
    code, _, err = toy(tmp_path / "1", "--seed", "1")
    assert code == 2 and err.startswith(f"error: {damaged}: is damaged") and err.count("\n") == 1


def test_a_damaged_run_that_is_replaced_is_kept_until_its_successor_is_finished(toy, cut, tmp_path):
    """The report counts it: only a file beside its results is not what was written."""
    assert toy(tmp_path / "run")[0] == 0
    mask = tmp_path / "run/mask.safetensors"
    mask.write_bytes(mask.read_bytes() + b" ")
    results = (tmp_path / "run/all_results.json").read_bytes()
    cut(tmp_path / "run", "--overwrite_output_dir")
    assert (tmp_path / "run/.previous/all_results.json").read_bytes() == results
    assert toy(tmp_path / "run")[0] == 0 and not (tmp_path / "run/.previous").exists()


def test_a_record_of_another_kind_is_refused_in_one_line(toy, tmp_path):
    (tmp_path / "run.json").write_text('{"status": "done", "settings": {"x": 1}}')
    (tmp_path / "all_results.json").write_text("{}")
    code, _, err = toy(tmp_path)
    assert code == 2 and err.count("\n") == 1 and "holds run.json but no readable run.json" in err
