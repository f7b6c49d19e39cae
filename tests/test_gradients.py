"""Batches in fixed shapes, and graphs of their operations, as far as a CPU can tell.

A CUDA graph repeats operations on the memory that they were recorded with; no line of Python runs again. ``Tape`` does the same
with torch's operations on a CPU, so that whatever a step takes from the host while it is recorded, and not from a tensor that is
filled anew, shows as a wrong result.
"""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForSequenceClassification as Model
from transformers import AutoTokenizer, BertConfig, ElectraConfig, RobertaConfig

from conftest import save_tiny_model
from junkdna import gradients, packing, resident
from junkdna.checkpoint import first_position
from junkdna.data import Examples
from junkdna.evaluation import collator
from junkdna.features import tokenise
from junkdna.finetune import FineTuning, Recipe, order
from junkdna.gradients import Graphs, Stepwise
from junkdna.regimes import Sparse
from junkdna.resident import Resident, Shape

HEADS = 4
SIZES = {
    "vocab_size": 2000, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": 64,
    "max_position_embeddings": 70, "num_labels": 3,
}  # fmt: skip
CONFIGS = [BertConfig, ElectraConfig, RobertaConfig]


class Tape(TorchDispatchMode):
    """Records a function's operations; ``repeat`` takes them again, in and out of the same memory, drawing new random bits."""

    def __init__(self):
        super().__init__()
        self.taken = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.taken.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def repeat(self):
        for function, args, kwargs, out in self.taken:
            again = function(*args, **kwargs)
            for old, new in zip(pytree.tree_leaves(out), pytree.tree_leaves(again)):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(function):
    """In place of CudaGraphs. The function is run once before, as there."""
    function()
    tape = Tape()
    with tape:
        returned = function()
    return tape.repeat, returned


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(resident, "TOKENS", 16)
    monkeypatch.setattr(resident, "LONGEST", 8)


@pytest.fixture(scope="module", autouse=True)
def leave_no_precision():
    yield
    AcceleratorState._reset_state()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradients") / "model"
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def features(tokenizer):
    words = ["the", "cat", "saw", "a", "bright", "flower", "and", "my", "friend", "liked", "the", "sweet", "cake"]
    texts = [(" ".join(words[: 1 + i % 7]), " ".join(words[i % 5 :])) for i in range(50)]
    return tokenise(Examples(texts, [i % 3 for i in range(50)]), tokenizer, 32)


def make_model(config, tokenizer, dropout=0.0):
    torch.manual_seed(0)
    more = {"pad_token_id": 1} if config is RobertaConfig else {"type_vocab_size": 2}
    more |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = Model.from_config(config(**SIZES, **more))
    assert packing.pack(model, tokenizer, first_position(model.config.to_dict())) is None
    return model.train()


def make_resident(model, features):
    return Resident(features, first_position(model.config.to_dict()), HEADS, model.config.pad_token_id, "cpu")


def taken(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


# --- batches ---------------------------------------------------------------------------------------------------------


def test_shapes_grow_in_steps_and_leave_a_place_for_the_filling(tokenizer, features):
    made = make_resident(make_model(BertConfig, tokenizer), features)
    made.lengths = np.array([5, 11, 8, 8, 16])
    assert made.shape(np.array([0, 1])) == Shape(2, 16, 16)
    assert made.shape(np.array([0, 1, 0])) == Shape(3, 32, 16)
    assert made.shape(np.array([2, 3])) == Shape(2, 16, 16)  # a grid of 8 would be full
    assert made.shape(np.array([4, 0])) == Shape(2, 32, 16)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("examples", [np.arange(11), np.array([30, 7, 7, 41]), np.array([6])])
def test_outputs_and_gradients_are_those_of_padded_batches(config, examples, tokenizer, features):
    model = make_model(config, tokenizer)
    padded = model(**collator(tokenizer)(features.rows(examples)), labels=torch.tensor(features.labels)[examples])
    padded.loss.backward()
    expected = taken(model)
    made = make_resident(model, features)
    shape = made.shape(examples)
    row = made.batch(made.upload(examples), shape)
    assert row["input_ids"].shape == row["position_ids"].shape == (1, shape.tokens)
    assert shape.tokens > features.lengths[examples].sum()  # there is filling
    fixed = model(**row)
    fixed.loss.backward()
    torch.testing.assert_close(fixed.logits, padded.logits, rtol=0, atol=1e-6)
    found = taken(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert sum(float(g.abs().sum()) for g in expected.values()) > 1


def test_the_filling_has_no_gradient(tokenizer, features):
    model = make_model(BertConfig, tokenizer, dropout=0.1)
    made, examples = make_resident(model, features), np.array([3, 12, 22])
    shape, real = made.shape(examples), int(features.lengths[examples].sum())
    seen = []

    def watch(module, inputs, output):
        output.register_hook(seen.append)

    for layer in (model.bert.embeddings, *model.bert.encoder.layer[:-1]):
        layer.register_forward_hook(watch)
    model(**made.batch(made.upload(examples), shape)).loss.backward()
    assert len(seen) == 2 and real < shape.tokens
    for gradient in seen:
        assert bool(gradient[0, :real].any(-1).all()) and not bool(gradient[0, real:].any())


# --- graphs ----------------------------------------------------------------------------------------------------------


def make_tuning(config, tokenizer, features, dropout=0.1, precision="no", **recipe):
    model = make_model(config, tokenizer, dropout)
    weights = {name: p for name, p in model.named_parameters() if "query" in name}
    generator = torch.Generator().manual_seed(3)
    masks = {name: torch.rand(p.shape, generator=generator) < 0.5 for name, p in weights.items()}
    plan = {"batch_size": 7, "epochs": 3, "learning_rate": 1e-3, "weight_decay": 0.01, "schedule": "linear", "seed": 7}
    collate = packing.collator(first_position(model.config.to_dict()), HEADS, fused=True)
    AcceleratorState._reset_state()  # it refuses a second precision in one process
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    held = make_resident(model, features)
    made = FineTuning(model, features, collate, Recipe(**plan | recipe), Sparse(weights, masks), accelerator, held)
    made.model.train()
    return made


def train(made, epochs=(0, 1, 2, 3)):
    losses = []
    if epochs[0] == 0:
        torch.manual_seed(7)  # several are made before the first is trained
    for epoch in epochs:
        permutation = order(7, epoch, 50)
        losses += [made.train_step(permutation[start : start + 7]) for start in range(0, 50, 7)]
    made.verify()
    return torch.stack(losses), [p.detach().clone() for p in made.bare.parameters()]


def assert_equal(one, other):
    for a, b in zip(*((losses, *weights) for losses, weights in (one, other))):
        assert torch.equal(a, b)


@pytest.fixture
def on_tape(monkeypatch):
    """The CPU's stand-in for CUDA graphs."""
    monkeypatch.setattr(gradients, "CudaGraphs", lambda: record)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_by_graphs_gives_the_bits_of_training_without(config, precision, tokenizer, features, on_tape):
    """Dropout, mask, weight decay and batches of many shapes included."""
    made = make_tuning(config, tokenizer, features, precision=precision)
    found = train(made)
    shapes = made.gradient._recorded
    assert len(shapes) >= 2 and made.gradient._repeated >= 12 and made.gradient.trouble is None
    assert made.gradient.describe().startswith(
        f"as {len(shapes)} CUDA graphs: {made.gradient._repeated} of 32, the rest"
    )
    without = make_tuning(config, tokenizer, features, precision=precision)
    without.gradient.trouble = "not wanted"
    assert_equal(train(without), found)
    assert without.gradient._repeated == 0 and len(set(found[0].tolist())) == 32


def test_without_dropout_it_is_the_training_of_batches_that_the_host_makes(tokenizer, features, on_tape):
    made, usual = (make_tuning(RobertaConfig, tokenizer, features, dropout=0.0) for _ in range(2))
    collate = packing.collator(first_position(usual.bare.config.to_dict()), HEADS, fused=True)
    usual.gradient = Stepwise(usual.model, features, collate, usual.accelerator)
    (losses, weights), (expected, final) = train(made), train(usual)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    for a, b, (name, _) in zip(weights, final, made.bare.named_parameters()):
        if "key.bias" not in name:  # its gradient is rounding noise, which AdamW amplifies
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5, msg=name)


def test_what_was_recorded_is_let_go_when_dropout_changes(tokenizer, features, on_tape):
    made, fresh = (make_tuning(BertConfig, tokenizer, features, dropout=p) for p in (0.0, 0.1))
    train(made)
    made.load_state(fresh.state())
    for module in made.bare.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    made.gradient.forget()
    assert_equal(train(made), train(fresh))


def test_a_run_that_was_interrupted_ends_with_the_same_bits(tokenizer, features, on_tape):
    whole, first, second = (make_tuning(BertConfig, tokenizer, features) for _ in range(3))
    losses, weights = train(whole)
    train(first, (0, 1, 2))
    second.load_state(first.state())
    assert_equal((losses[24:], weights), train(second, (3,)))


def wrong(function):
    """A graph that leaves a tenth too much in the gradient of the word embeddings."""
    repeat, (loss, found) = record(function)

    def off():
        repeat()
        found[0].mul_(1.1)

    return off, (loss, found)


def refused(function):
    function()
    raise torch.OutOfMemoryError("CUDA out of memory. Tried\nmore")


@pytest.mark.parametrize(
    ("maker", "reason"), [(wrong, "differed by 0"), (refused, "could not be made: CUDA out of memory. Tried")]
)
def test_a_graph_that_is_not_right_is_told_of_and_changes_nothing(
    maker, reason, tokenizer, features, monkeypatch, capsys
):
    monkeypatch.setattr(gradients, "CudaGraphs", lambda: maker)
    made, usual = (make_tuning(BertConfig, tokenizer, features) for _ in range(2))
    usual.gradient.trouble = "not wanted"
    assert_equal(train(made), train(usual))
    assert made.gradient._repeated == 0 and reason in made.gradient.describe()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: no CUDA graph: ") and reason in line


def test_the_number_of_graphs_is_limited(tokenizer, features, on_tape, monkeypatch):
    monkeypatch.setattr(gradients, "MOST_GRAPHS", 1)
    made = make_tuning(BertConfig, tokenizer, features)
    train(made)
    assert len(made.gradient._recorded) == 1 and "as 1 CUDA graphs" in made.gradient.describe()


@pytest.mark.parametrize("changes", [{"accumulation": 2}, {}])
def test_only_steps_of_one_batch_have_fixed_shapes(changes, tokenizer, features):
    made = make_tuning(BertConfig, tokenizer, features, **changes)
    assert isinstance(made.gradient, Stepwise if changes else Graphs)


def test_it_can_be_switched_off(tokenizer, features):
    made = make_tuning(BertConfig, tokenizer, features)
    off = FineTuning(
        made.bare, features, None, made.recipe, None, made.accelerator, make_resident(made.bare, features), graphs=False
    )
    assert "--no_cuda_graphs" in off.gradient.describe() and not off.gradient._may_record()
