"""Batches in fixed shapes, and graphs of their operations, as far as a CPU can tell.

A CUDA graph repeats operations on the memory that they were recorded with; no line of Python runs again. ``Tape`` does
the same with torch's operations on a CPU, so that whatever a step takes from the host while it is recorded, and not
from a tensor that is filled anew, shows as a wrong result.
"""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForSequenceClassification as Model
from transformers import BertConfig, ElectraConfig, RobertaConfig

from conftest import paired_features, tiny_tokenizer
from junkdna.errors import UserError
from junkdna.models.folder import first_position
from junkdna.sparsity.hold import hold
from junkdna.training.device import configure
from junkdna.training.fast import cuda_graphs as gradients
from junkdna.training.fast import packing, resident
from junkdna.training.fast.cuda_graphs import Graphs
from junkdna.training.fast.resident import Resident, Shape
from junkdna.training.finetune import FineTuning
from junkdna.training.predict import collator
from junkdna.training.recipe import Recipe, order
from junkdna.training.step import Stepwise
from junkdna.training.tokens import Collated, Features

HEADS = 4
SIZES = {
    "vocab_size": 2000, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS,
    "intermediate_size": 64,
    "max_position_embeddings": 70, "num_labels": 3,
}  # fmt: skip
CONFIGS = [BertConfig, ElectraConfig, RobertaConfig]


class Tape(TorchDispatchMode):
    """Records a function's operations; ``repeat`` takes them again, in and out of the same memory, drawing new random
    bits.
    """

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
    monkeypatch.setattr(gradients, "WORTH", 1)


@pytest.fixture(scope="module", autouse=True)
def leave_no_precision():
    yield
    AcceleratorState._reset_state()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def features(tokenizer):
    return paired_features(tokenizer, 50)


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
    made.lengths = np.array([5, 10, 8, 8, 16])
    assert made.shape(np.array([0, 1])) == Shape(2, 16, 16)
    assert made.shape(np.array([0, 1, 0])) == Shape(3, 32, 16)
    assert made.shape(np.array([2, 3])) == Shape(2, 32, 16)  # a row of 16 and a grid of 8 would be full
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


class Mixed(TorchDispatchMode):
    """Refuses operations on tensors of two devices: on a GPU, that is a copy from the host."""

    seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        leaves = pytree.tree_leaves((args, kwargs, out))
        assert len({leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)}) < 2, function
        self.seen += 1
        return out


@pytest.mark.parametrize("config", CONFIGS)
def test_nothing_of_a_forward_pass_comes_from_the_host(config, tokenizer, features):
    model = make_model(config, tokenizer, dropout=0.1).to("meta")
    made = Resident(features, first_position(model.config.to_dict()), HEADS, model.config.pad_token_id, "meta")
    examples = np.arange(9)
    numbers = made.upload(examples)
    with Mixed() as mode:
        loss = model(**made.batch(numbers, made.shape(examples))).loss
    assert loss.device.type == "meta" and mode.seen > 100


def test_full_rows_and_grids_and_regression(tokenizer, features):
    """Every example as long as the grid's step, and their sum as the row's; labels are values."""
    torch.manual_seed(0)
    sizes = SIZES | {"num_labels": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = Model.from_config(BertConfig(**sizes, type_vocab_size=2)).train()
    assert packing.pack(model, tokenizer, 0) is None
    starts = np.arange(5) * 8
    columns = {name: column[:32] for name, column in features.columns.items()}
    values = Features(columns, starts, [0.5, 2.25, 4.0, 1.0], 32)
    made, examples = make_resident(model, values), np.array([2, 0, 1, 3])
    assert made.shape(examples) == Shape(4, 48, 16)
    padded = model(**collator(tokenizer)(values.rows(examples)), labels=torch.tensor(values.labels)[examples])
    padded.loss.backward()
    expected = taken(model)
    fixed = model(**made.batch(made.upload(examples), made.shape(examples)))
    fixed.loss.backward()
    torch.testing.assert_close(fixed.loss, padded.loss, rtol=0, atol=1e-6)
    for name, gradient in taken(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


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
    AcceleratorState._reset_state(reset_partial_state=True)  # it refuses a second precision or device in one process
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    resident = make_resident(model, features)

    def make_step(model, plan):
        return Graphs(model, resident, accelerator, plan.steps)

    held = hold(model, masks, "sparse")
    made = FineTuning(model, Collated(features, collate), Recipe(**plan | recipe), accelerator, held, make_step)
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
    shapes = made.step.graphs
    assert len(shapes) >= 2 and made.step.repeated >= 12 and made.step.trouble is None
    assert made.step.describe().startswith(f"as {len(shapes)} CUDA graphs: {made.step.repeated} of 32, the rest")
    without = make_tuning(config, tokenizer, features, precision=precision)
    without.step.trouble = "not wanted"
    assert_equal(train(without), found)
    assert without.step.repeated == 0 and len(set(found[0].tolist())) == 32


def test_a_loss_is_not_overwritten_by_the_next_step(tokenizer, features, on_tape):
    made = make_tuning(BertConfig, tokenizer, features)
    train(made)
    examples = next(
        part for part in order(7, 0, 50)[:49].reshape(7, 7) if made.step.resident.shape(part) in made.step.graphs
    )
    first = made.step(examples)
    value, second = float(first), made.step(examples)  # of other random bits
    assert float(first) == value != float(second)


def test_without_dropout_it_is_the_training_of_batches_that_the_host_makes(tokenizer, features, on_tape):
    made, usual = (make_tuning(RobertaConfig, tokenizer, features, dropout=0.0) for _ in range(2))
    collate = packing.collator(first_position(usual.bare.config.to_dict()), HEADS, fused=True)
    usual.step = Stepwise(usual.model, Collated(features, collate), usual.accelerator)
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
    made.step.forget()
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


def of_other_dropout(function):
    """A graph that draws more random bits than its operations."""
    repeat, returned = record(function)
    return lambda: (repeat(), torch.rand(1)), returned


def of_one_batch(function):
    """A graph that does not look at the examples' numbers again: it always computes what it did when it was
    recorded.
    """
    _, returned = record(function)
    return lambda: None, returned


@pytest.mark.parametrize(
    ("maker", "reason"),
    [
        (wrong, "differed by 0"),
        (of_other_dropout, "differed by inf"),
        (of_one_batch, "differed by"),
        (refused, "no memory for one for Shape("),
    ],
)
def test_a_graph_that_is_not_right_is_told_of_and_changes_nothing(
    maker, reason, tokenizer, features, monkeypatch, caplog
):
    monkeypatch.setattr(gradients, "CudaGraphs", lambda: maker)
    made, usual = (make_tuning(BertConfig, tokenizer, features) for _ in range(2))
    usual.step.trouble = "not wanted"
    assert_equal(train(made), train(usual))
    assert made.step.repeated == 0 and reason in made.step.describe()
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("junkdna")]
    assert line.startswith("no CUDA graph: ") and reason in line


def test_a_refusal_of_cuda_ends_the_run_and_names_the_way_out(tokenizer, features, monkeypatch):
    def illegal(function):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(gradients, "CudaGraphs", lambda: illegal)
    with pytest.raises(
        UserError, match=r"^cuda_graphs: .*\(operation not permitted when stream is capturing\); leave it out"
    ):
        train(make_tuning(BertConfig, tokenizer, features))


def test_noise_is_no_reason_and_with_deterministic_kernels_there_is_none(tokenizer, features, monkeypatch):
    def noisy(function):
        repeat, (loss, found) = record(function)
        return lambda: (repeat(), found[0].mul_(1 + 1e-6)), (loss, found)

    monkeypatch.setattr(gradients, "CudaGraphs", lambda: noisy)
    accepted, refused = (make_tuning(BertConfig, tokenizer, features) for _ in range(2))
    train(accepted)
    assert accepted.step.repeated > 0
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    train(refused)
    assert refused.step.repeated == 0 and "differed by" in refused.step.describe()


def test_a_graph_that_would_not_pay_is_not_made(tokenizer, features, on_tape, monkeypatch):
    monkeypatch.setattr(gradients, "WORTH", 30)  # of 32 steps
    made = make_tuning(BertConfig, tokenizer, features)
    train(made)
    assert made.step.graphs == {} and made.step.trouble is None


def test_the_number_of_graphs_is_limited(tokenizer, features, on_tape, monkeypatch):
    monkeypatch.setattr(gradients, "MOST_GRAPHS", 1)
    made = make_tuning(BertConfig, tokenizer, features)
    train(made)
    assert len(made.step.graphs) == 1 and "as 1 CUDA graphs" in made.step.describe()


@pytest.mark.parametrize("changes", [{"accumulation": 2}, {}])
def test_only_steps_of_one_batch_have_fixed_shapes(changes, tokenizer, features):
    made = make_tuning(BertConfig, tokenizer, features, **changes)
    assert isinstance(made.step, Stepwise if changes else Graphs)


# --- on a GPU --------------------------------------------------------------------------------------------------------


def make_on_gpu(tokenizer, features, precision="no", graphs=True):
    model = make_model(RobertaConfig, tokenizer, dropout=0.1)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision=precision)
    configure(accelerator, deterministic=False)
    start = first_position(model.config.to_dict())
    resident = Resident(features, start, HEADS, model.config.pad_token_id, accelerator.device)

    def make_step(model, plan):
        return Graphs(model, resident, accelerator, plan.steps, None if graphs else "not wanted")

    recipe = Recipe(batch_size=7, epochs=4, learning_rate=1e-3, weight_decay=0.01, schedule="linear", seed=7)
    batches = Collated(features, packing.collator(start, HEADS, fused=True))
    made = FineTuning(model, batches, recipe, accelerator, None, make_step)
    made.model.train()
    return made


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_cuda_graphs_give_the_training_of_their_operations(precision, tokenizer, features):
    """Twice in one process, as two cells of a grid, and after what was recorded was let go."""
    for _ in range(2):
        made, without = (make_on_gpu(tokenizer, features, precision, graphs) for graphs in (True, False))
        made.step.steps = 1_000_000  # a graph is worth it in both rounds
        for _ in range(2):
            before = made.step.repeated
            (losses, weights), (expected, final) = train(made), train(without)
            assert made.step.repeated > before + 10 and made.step.trouble is None, made.step.describe()
            torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-3)
            for a, b in zip(weights, final):
                torch.testing.assert_close(a, b, rtol=0.05, atol=5e-3)
            made.step.forget()
        made.close()
    AcceleratorState._reset_state(reset_partial_state=True)  # later tests take the CPU
