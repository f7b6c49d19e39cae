"""The whole command against the plain method, written again in a few lines of torch and transformers: labels padded
with -100, smoothing by hand, a schedule by hand, AdamW, every weight put back after every step, one batch.
"""

import pytest
import tiny
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import Translation_prune_oneshot

STEPS, WARMUP, RATE, SMOOTHING, DECAY, ROWS = 12, 3, 5e-4, 0.1, 0.1, 12
REGIMES = {
    "sparse": ["--freeze_weights"],
    "frozen": ["--freeze_weights_frompretrain"],
    "free": [],
    "after": ["--prune_after_training"],
}
CODES = {"en": "en_XX", "de": "de_DE"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model without dropout, and its training text."""
    root = tmp_path_factory.mktemp("oracle")
    tiny.save("mbart", root / "model", dropout=0.0)
    return root / "model", tiny.write_pair(root / "text", "en-de", train=ROWS, test=2)


def plain_batch(folder):
    """Both directions of all sentence pairs as one batch: ids, mask, what the decoder reads, labels."""
    rows = []
    for source, target in (("en", "de"), ("de", "en")):
        tokenizer = AutoTokenizer.from_pretrained(folder, src_lang=CODES[source], tgt_lang=CODES[target])
        texts, answers = tiny.parallel("en-de", ROWS)
        if source == "de":
            texts, answers = answers, texts
        made = tokenizer(texts, text_target=answers)
        rows += zip(made["input_ids"], made["labels"])

    def pad(lists, value):
        longest = max(map(len, lists))
        return torch.tensor([[*one, *[value] * (longest - len(one))] for one in lists])

    labels = [label for _, label in rows]
    ids = pad([read for read, _ in rows], 1)
    return ids, ids != 1, pad([[one[-1], *one[:-1]] for one in labels], 1), pad(labels, -100)


def rate_at(step):
    """Linear warm-up, then the inverse square root."""
    return RATE * (step / WARMUP if step < WARMUP else (WARMUP / step) ** 0.5)


def plain_masks(model):
    """All matrices ranked together, the embeddings among them; half of the weights go."""
    weights = {name: p.detach() for name, p in model.named_parameters() if p.dim() == 2}
    joined = torch.cat([w.abs().flatten() for w in weights.values()]).sort().values
    threshold = joined[round(0.5 * len(joined))]
    return {name: w.abs() >= threshold for name, w in weights.items()}


def plain_method(folder, regime):
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    ids, attended, read, labels = plain_batch(folder)
    named = dict(model.named_parameters())
    before = {name: p.detach().clone() for name, p in named.items()}
    masks = plain_masks(model)

    @torch.no_grad()
    def put_back(kind):
        for name, mask in masks.items():
            if kind != "frozen":
                named[name].mul_(mask)
            else:
                named[name].copy_(torch.where(mask, named[name], before[name]))

    if regime in ("sparse", "free"):
        put_back("sparse")
    plain = {name for name in named if "bias" in name or "norm" in name}
    groups = [
        {"params": [p for name, p in named.items() if name not in plain], "weight_decay": DECAY},
        {"params": [p for name, p in named.items() if name in plain], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, foreach=False)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        logits = model(input_ids=ids, attention_mask=attended, decoder_input_ids=read, use_cache=False).logits
        logs = logits.log_softmax(-1)
        real = labels != -100
        chosen = logs.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        loss = -((1 - SMOOTHING) * chosen + SMOOTHING * logs.mean(-1))[real].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if regime in ("sparse", "frozen"):
            put_back(regime)
    if regime == "after":
        masks = plain_masks(model)
        put_back("sparse")
    return model.state_dict(), before, masks


@pytest.mark.parametrize("regime", REGIMES)
def test_the_command_agrees_with_the_plain_method(regime, world, tmp_path):
    folder, text = world
    out = tmp_path / "run"
    words = ["--model_name_or_path", folder, "--data_dir", text, "--pair", "en-de", "--sparsity", 0.5,
             *REGIMES[regime], "--num_train_epochs", STEPS, "--per_device_train_batch_size", 2 * ROWS,
             "--lr_scheduler_type", "inverse_sqrt", "--num_warmup_steps", WARMUP, "--learning_rate", RATE,
             "--label_smoothing", SMOOTHING, "--weight_decay", DECAY, "--max_new_tokens", 2, "--num_beams", 1,
             "--save_model", "--output_dir", out]  # fmt: skip
    assert Translation_prune_oneshot.main([str(word) for word in words]) == 0
    found = AutoModelForSeq2SeqLM.from_pretrained(out).state_dict()
    expected, start, masks = plain_method(folder, regime)
    assert found.keys() == expected.keys()
    moved = 0.0
    for name, value in expected.items():
        if name.endswith("k_proj.bias"):  # softmax cancels it: its gradient is rounding noise, which AdamW blows up
            continue
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        moved = max(moved, float((value - start[name]).abs().max()) if name in start else 0.0)
    assert moved > 2e-3  # the agreement is about weights that did train
    for name, mask in masks.items():
        if regime in ("sparse", "after"):
            assert (found[name][~mask] == 0).all()  # exactly
        if regime == "frozen":
            assert torch.equal(found[name][~mask], start[name][~mask])  # bit for bit
    # the embedding is one matrix under four names, in the file too
    tied = ["lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"]
    assert all(torch.equal(found[name], found["model.shared.weight"]) for name in tied)
