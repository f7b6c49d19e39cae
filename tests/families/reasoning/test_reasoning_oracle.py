"""The command against the plain method, written again in a few lines: a padded loop over the library's multiple-choice
model, and one over an encoder with a decoder made of torch's own attention; dropout off, one batch, AdamW.
"""

import csv
import json
import math

import pytest
import small
import torch
from torch import nn
from transformers import AutoModel, AutoModelForMultipleChoice, AutoTokenizer

import Reasoning_prune_oneshot
from conftest import save_tiny_model

STEPS, RATE, DECODER_RATE, SMOOTHING = 12, 1e-3, 2e-3, 0.1
NOISE = 2e-4
"""Gradients below this share of the largest one of their matrix may be rounding noise, which AdamW blows up to a step
of the full rate; softmax cancels the biases of keys and of a head for choices altogether.
"""
REGIMES = {"sparse": ["--freeze_weights"], "freezing": ["--freeze_weights_frompretrain"], "sparse_to_dense": []}
SYMBOLS = ("<pad>", "<start>", "<end>", "+", "-", "*", "/", "number0", "number1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The data, and two models without dropout of which all that can be is stored, so that little is drawn."""
    root = tmp_path_factory.mktemp("reasoning")
    small.fill(root / "data", train=40)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    save_tiny_model(root / "plain", **still)
    model = AutoModelForMultipleChoice.from_pretrained(root / "plain")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for module in (model.roberta.pooler.dense, model.classifier):
            nn.init.normal_(module.weight, std=0.2)
    model.save_pretrained(root / "choice")
    AutoTokenizer.from_pretrained(root / "plain").save_pretrained(root / "choice")
    return root


def half(matrices):
    """Every weight is kept that is larger than the middle one of all."""
    joined = torch.cat([w.detach().abs().flatten() for w in matrices.values()])
    threshold = joined.sort().values[round(0.5 * len(joined)) - 1]
    return {name: w.detach().abs() > threshold for name, w in matrices.items()}


class Plain:
    """The method on any model: what is removed, and how that is held after every step of AdamW."""

    def __init__(self, matrices, groups, regime):
        self.matrices, self.regime, self.mask = matrices, regime, half(matrices)
        self.parameters = {name: w for module, _ in groups for name, w in module.named_parameters()}
        self.noisy = {}
        self.before = {name: w.detach().clone() for name, w in matrices.items()}
        if regime != "freezing":
            self.put(zero=True)
        self.rates = [rate for _, rate in groups]
        groups = [{"params": list(module.parameters()), "lr": rate} for module, rate in groups]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0, foreach=False)

    def put(self, zero):
        for name, w in self.matrices.items():
            w.data = torch.where(self.mask[name], w.data, torch.zeros(()) if zero else self.before[name])

    def train(self, loss_of):
        for step in range(STEPS):
            for group, rate in zip(self.optimizer.param_groups, self.rates):
                group["lr"] = rate * (STEPS - step) / STEPS
            self.optimizer.zero_grad()
            loss_of().backward()
            self.optimizer.step()
            self.listen()
            if self.regime != "sparse_to_dense":
                self.put(zero=self.regime == "sparse")

    def listen(self):
        """Note the weights whose gradients so far may be noise."""
        for name, w in self.parameters.items():
            if w.grad is not None:
                typical = self.optimizer.state[w]["exp_avg_sq"].sqrt()
                noisy = typical < NOISE * typical.max()
                self.noisy[name] = self.noisy.get(name, False) | (noisy & (w.grad != 0))


def command(world, model, task, rows, regime, out, *more):
    argv = ["--model_name_or_path", world / model, "--data_dir", world / "data", "--task_name", task, *REGIMES[regime],
            "--sparsity", 0.5, "--noembed", "--max_train_samples", rows, "--per_device_train_batch_size", rows,
            "--num_train_epochs", STEPS, "--num_warmup_steps", 0, "--learning_rate", RATE, "--output_dir", out,
            "--save_model", *more]  # fmt: skip
    assert Reasoning_prune_oneshot.main([str(word) for word in argv]) == 0
    return json.loads((out / "all_results.json").read_text())


def agree(found, expected, start, noisy):
    assert found.keys() == expected.keys()
    moved, left_out, size = 0.0, 0, 0
    for name, value in expected.items():
        if name.endswith("key.bias") or name == "classifier.bias":
            continue
        loud = ~noisy.get(name.replace(".", "/"), noisy.get(name, torch.zeros_like(value, dtype=torch.bool)))
        left_out, size = left_out + int((~loud).sum()), size + loud.numel()
        difference = (found[name] - value.detach()).abs()[loud]
        assert float(difference.max()) <= 1e-6, name
        moved = max(moved, float((value.detach() - start[name]).abs().max()))
    assert moved > 3e-3  # the agreement is about weights that did train
    assert left_out < 0.02 * size


# --- multiple choice -------------------------------------------------------------------------------------------------


WAYS = [*((regime, ()) for regime in REGIMES), ("sparse", ("--pad_to_max_length", "--max_length", 48)),
        ("sparse", ("--num_choices", 3))]  # fmt: skip


@pytest.mark.parametrize("regime, how", WAYS)
def test_multiple_choice_agrees_with_a_padded_loop_over_the_librarys_model(regime, how, world, tmp_path):
    results = command(world, "choice", "commonsense_qa", 40, regime, tmp_path / "run", *how)
    model = AutoModelForMultipleChoice.from_pretrained(world / "choice", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(world / "choice")
    file = world / "data/commonsenseqa/train_rand_split.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()][:40]
    predictions = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    if "--num_choices" in how:
        from junkdna.families.reasoning import choices, reading

        kept = choices.keep_choices(reading.read_dir(world / "data", "commonsense_qa").train, 3, 42).first(40)
        pairs, labels = [pair for row in kept.rows for pair in row.texts], torch.tensor(kept.labels)
        assert all(len(line["logits"]) == 3 for line in predictions)
    else:
        pairs = [("Q: " + row["question"]["stem"], "A: " + option["text"])
                 for row in rows for option in row["question"]["choices"]]  # fmt: skip
        labels = torch.tensor(["ABCDE".index(row["answerKey"]) for row in rows])
    padded = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    batch = {name: x.view(40, -1, x.shape[1]) for name, x in padded.items()}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    matrices = {n: p for n, p in model.named_parameters() if p.dim() == 2 and "embeddings" not in n}
    plain = Plain(matrices, [(model, RATE)], regime)
    plain.train(lambda: model(**batch, labels=labels).loss)
    found = AutoModelForMultipleChoice.from_pretrained(tmp_path / "run").state_dict()
    agree(found, model.state_dict(), start, plain.noisy)
    if regime == "sparse":
        removed = sum(int((~mask).sum()) for mask in plain.mask.values())
        assert results["zero_fraction"] == results["sparsity"] == removed / sum(m.numel() for m in plain.mask.values())


# --- word problems ---------------------------------------------------------------------------------------------------


class PlainDecoder(nn.Module):
    """The decoder again, from torch's own attention, with the weights of a saved one."""

    def __init__(self, weights, layers, heads):
        super().__init__()
        self.weights = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(w.clone()) for name, w in weights.items()}
        )
        self.layers, self.heads = layers, heads

    def part(self, name):
        return self.weights[name.replace(".", "/")]

    def linear(self, name, x):
        return x @ self.part(f"{name}.weight").T + self.part(f"{name}.bias")

    def norm(self, name, x):
        return nn.functional.layer_norm(x, x.shape[-1:], self.part(f"{name}.weight"), self.part(f"{name}.bias"))

    def attend(self, name, x, to, seen):
        split = lambda t: t.unflatten(2, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        q, k, v = (split(self.linear(f"{name}.{part}", t)) for part, t in (("query", x), ("key", to), ("value", to)))
        scores = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).masked_fill(~seen, -torch.inf)
        return self.linear(f"{name}.output", (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def forward(self, states, mask, inputs):
        x = self.part("symbols.weight")[inputs] + self.part("places.weight")[: inputs.shape[1]]
        before = torch.ones(inputs.shape[1], inputs.shape[1]).tril().bool()
        for number in range(self.layers):
            name = f"layers.{number}"
            normal = self.norm(f"{name}.before_written", x)
            x = x + self.attend(f"{name}.written", normal, normal, before)
            x = x + self.attend(f"{name}.read", self.norm(f"{name}.before_read", x), states, mask.bool()[:, None, None])
            wide = nn.functional.gelu(self.linear(f"{name}.wide", self.norm(f"{name}.before_wide", x)))
            x = x + self.linear(f"{name}.narrow", wide)
        return self.linear("output", self.norm("normal", x))


@pytest.mark.parametrize("regime", REGIMES)
def test_word_problems_agree_with_a_plain_encoder_and_decoder(regime, world, tmp_path, monkeypatch):
    from junkdna.families.reasoning.solver import Solver

    begin, real = {}, Solver.reset

    def kept(self, seed):
        model = real(self, seed)
        begin.update({name: value.clone() for name, value in model.decoder.state_dict().items()})
        return model

    monkeypatch.setattr(Solver, "reset", lambda self, seed: kept(self, seed) if seed == 42 else real(self, seed))
    small_decoder = ("--decoder_layers", 2, "--decoder_heads", 4, "--decoder_inner", 48, "--decoder_dropout", 0)
    more = ("--decoder_learning_rate", DECODER_RATE, "--label_smoothing", SMOOTHING)
    command(world, "plain", "svamp", 20, regime, tmp_path / "run", *small_decoder, *more)

    encoder = AutoModel.from_pretrained(world / "plain", dtype=torch.float32)
    encoder.pooler = None
    tokenizer = AutoTokenizer.from_pretrained(world / "plain")
    with open(world / "data/svamp/mawps-asdiv-a_svamp/train.csv") as file:
        rows = list(csv.DictReader(file))[:20]
    batch = tokenizer([row["Question"] for row in rows], padding=True, return_tensors="pt")
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1  # padding is in it
    equations = [[*(SYMBOLS.index(word) for word in row["Equation"].split()), 2] for row in rows]
    longest = max(map(len, equations))
    assert longest > min(map(len, equations))  # here, too: the loss is the mean over symbols, not over equations
    targets = torch.tensor([[*ids, *[-100] * (longest - len(ids))] for ids in equations])
    inputs = torch.tensor([[1, *ids[:-1], *[0] * (longest - len(ids))] for ids in equations])
    decoder = PlainDecoder(begin, layers=2, heads=4)
    start = {name: value.clone() for name, value in encoder.state_dict().items()}
    matrices = {n: p for n, p in encoder.named_parameters() if p.dim() == 2 and "embeddings" not in n}
    plain = Plain(matrices, [(encoder, RATE), (decoder, DECODER_RATE)], regime)

    def loss():
        logits = decoder(encoder(**batch).last_hidden_state, batch["attention_mask"], inputs)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=SMOOTHING)

    plain.train(loss)
    found = AutoModel.from_pretrained(tmp_path / "run", add_pooling_layer=False).state_dict()
    agree(found, encoder.state_dict(), start, plain.noisy)
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "run/equation_decoder.safetensors")
    made = {name.replace("/", "."): value for name, value in decoder.weights.items()}
    agree(saved, made, begin, {name.removeprefix("weights."): noisy for name, noisy in plain.noisy.items()})
    about = json.loads((tmp_path / "run/equation_decoder.json").read_text())
    assert tuple(about["symbols"]) == SYMBOLS and about["most"] == 9
