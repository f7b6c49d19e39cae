"""The whole program against the plain method, written again in a few lines: threshold over all magnitudes joined and
sorted, every weight put back after every step, torch's default AdamW, one batch, dropout off."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import save_tiny_model

STEPS, RATE = 12, 1e-3
REGIMES = {"sparse": ["--freeze_weights"], "freezing": ["--freeze_weights_frompretrain"], "sparse_to_dense": []}
PATTERNS = {"unstructured": ["--sparsity", "0.6"], "nm": ["--sparse_init", "sparse_nm", "--nm_ratio", "3:8"]}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A classifier with its head, so that nothing is drawn, and without dropout."""
    folder = tmp_path_factory.mktemp("oracle") / "model"
    save_tiny_model(folder, head=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return str(folder)


def plain_mask(pattern, weights):
    if pattern == "nm":

        def groups(w):
            g = w.abs().reshape(-1, 8)
            return (g >= g.sort(dim=1, descending=True).values[:, 2:3]).reshape(w.shape)

        return {name: groups(w) for name, w in weights.items()}
    joined = torch.cat([w.abs().flatten() for w in weights.values()])
    threshold = joined.sort(descending=True).values[len(joined) - round(0.6 * len(joined)) - 1]
    return {name: w.abs() >= threshold for name, w in weights.items()}


def plain_method(folder, csv_task, regime, pattern, decay):
    """Return the final weights of the plain method and its mask."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = [line.rsplit(",", 1) for line in Path(csv_task.train).read_text().splitlines()[1:]]
    batch = tokenizer([text for text, _ in lines], padding=True, return_tensors="pt")
    labels = torch.tensor([int(label) for _, label in lines])
    matrices = {n: p for n, p in model.named_parameters() if p.dim() == 2 and "embeddings" not in n}
    mask = plain_mask(pattern, {name: p.detach() for name, p in matrices.items()})
    before = {name: p.detach().clone() for name, p in matrices.items()}

    def put_back():
        for name, p in matrices.items():
            if regime == "sparse":
                p.data = p.data * mask[name]
            elif regime == "freezing":
                p.data = torch.where(mask[name], p.data, before[name])

    if regime != "freezing":
        for name, p in matrices.items():
            p.data = p.data * mask[name]
    without = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm.weight" in n]
    others = [p for n, p in model.named_parameters() if not ("bias" in n or "LayerNorm.weight" in n)]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": decay}, {"params": without, "weight_decay": 0.0}], lr=RATE, foreach=False
    )
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (STEPS - step) / STEPS
        loss = torch.nn.functional.cross_entropy(model(**batch).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        put_back()
    return model.state_dict(), mask


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("regime", REGIMES)
def test_the_program_agrees_with_the_plain_method(regime, pattern, decay, model_folder, csv_task, tmp_path, command):
    out = tmp_path / "run"
    code, _, err = command(
        ["--model_name_or_path", model_folder, *csv_task.flags, *REGIMES[regime], *PATTERNS[pattern], "--noembed",
         "--per_device_train_batch_size", 64, "--num_train_epochs", STEPS, "--num_warmup_steps", 0,
         "--learning_rate", RATE, "--weight_decay", decay, "--output_dir", out, "--save_model"]
    )  # fmt: skip
    assert code == 0, err
    found = AutoModelForSequenceClassification.from_pretrained(out).state_dict()
    expected, mask = plain_method(model_folder, csv_task, regime, pattern, decay)
    start = AutoModelForSequenceClassification.from_pretrained(model_folder).state_dict()
    assert found.keys() == expected.keys()
    moved = 0.0
    for name, value in expected.items():
        if name.endswith("key.bias"):  # softmax cancels it: its gradient is rounding noise, which AdamW blows up
            continue
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        moved = max(moved, float((value - start[name]).abs().max()))
    assert moved > 3e-3  # the agreement is about weights that did train

    removed = sum(int((~m).sum()) for m in mask.values())
    results = json.loads((out / "all_results.json").read_text())
    held = {"sparse": 0.0, "freezing": None}.get(regime, "free")
    for name, m in mask.items():
        if held == 0.0:
            assert (found[name][~m] == 0).all()  # exactly
        elif held is None:
            assert torch.equal(found[name][~m], start[name][~m])  # bit for bit
    if regime == "sparse":
        assert sum(int((found[name] == 0).sum()) for name in mask) == removed
        assert results["zero_fraction"] == results["sparsity"] == removed / sum(m.numel() for m in mask.values())
    if regime == "sparse_to_dense":
        assert results["zero_fraction"] < results["sparsity"]
