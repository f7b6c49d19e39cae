"""The training loop: order, steps, accumulation, and what it does with single steps."""

import gc
import weakref

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import save_tiny_model
from junkdna.sparsity.hold import hold
from junkdna.sparsity.masks import make_masks
from junkdna.sparsity.patterns import Unstructured
from junkdna.sparsity.scope import find_scope
from junkdna.training.fast import packing
from junkdna.training.fast.cuda_graphs import Graphs
from junkdna.training.fast.resident import Resident
from junkdna.training.finetune import FineTuning
from junkdna.training.predict import as_labels, collator, predict
from junkdna.training.recipe import Recipe, order, plan
from junkdna.training.tokens import Collated, tokenise

RECIPE = {"epochs": 3, "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "linear", "seed": 7}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune") / "model"
    save_tiny_model(folder, head=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = [
        "the cat saw a bright flower",
        "a bird found the sad story",
        "my friend",
        "the farmer liked the sweet cake",
    ]
    texts = [(words[i % 4] + " the" * (i % 5),) for i in range(27)]
    features = tokenise(texts, [i % 2 for i in range(27)], tokenizer, 32)
    return str(folder), features, collator(tokenizer)


def tuning(parts, **changes):
    folder, features, collate = parts
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    recipe = Recipe(**RECIPE | {"batch_size": 8} | changes)
    return FineTuning(model, Collated(features, collate), recipe, Accelerator(cpu=True))


def test_steps_epochs_and_warm_up():
    made = plan(Recipe(batch_size=32, **RECIPE), 8551)
    assert (made.steps_per_epoch, made.steps, made.warmup_steps, made.epochs) == (268, 804, 48, 3)
    made = plan(Recipe(batch_size=4, accumulation=4, max_steps=600, warmup_steps=5, **RECIPE), 8551, processes=2)
    assert (made.per_step, made.steps_per_epoch, made.steps, made.warmup_steps, made.epochs) == (32, 268, 600, 5, 3)


def test_the_order_is_a_permutation_of_seed_and_epoch_alone():
    first = order(41, 0, 1000)
    assert sorted(first) == list(range(1000)) and np.array_equal(first, order(41, 0, 1000))
    assert not np.array_equal(first, order(41, 1, 1000)) and not np.array_equal(first, order(42, 0, 1000))


def test_an_epoch_takes_every_example_once_and_the_schedule_ends_at_zero(parts):
    made = tuning(parts)
    seen = []
    step = made.train_step
    made.train_step = lambda examples: (seen.extend(examples), step(examples))[1]
    results = list(made.run(lambda model: {"eval_x": 1.0}))
    last = results[-1]
    assert len(seen) == 81 and all(sorted(seen[i : i + 27]) == list(range(27)) for i in (0, 27, 54))
    assert (last.number, last.step, len(results)) == (3, 12, 3)
    assert made.schedule.get_last_lr()[0] == 0.0 and results[0].train_loss > results[2].train_loss


@pytest.mark.parametrize("size", [12, 7, 1])
@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 3), (3, 4), (5, 3)])
def test_accumulated_batches_have_the_gradient_of_one_large_batch_even_when_uneven(
    parts, batch_size, accumulation, size
):
    whole, divided = tuning(parts, batch_size=12), tuning(parts, batch_size=batch_size, accumulation=accumulation)
    gradients, losses = [], []
    for made in (whole, divided):
        made.model.train()
        made._update = lambda made=made: gradients.append([p.grad.clone() for p in made.bare.parameters()])
        losses.append(made.train_step(np.arange(3, 3 + size)))
    torch.testing.assert_close(losses[0], losses[1])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in gradients[0]) > 1e-2


def test_what_the_optimizer_remembers_is_let_go_with_the_training(parts):
    folder, features, collate = parts
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    masks = make_masks(find_scope(model, embeddings=False), Unstructured(0.5))
    recipe = Recipe(**RECIPE | {"batch_size": 8, "max_steps": 2})
    held = hold(model, masks, "sparse")
    made = FineTuning(model, Collated(features, collate), recipe, Accelerator(cpu=True), held)
    list(made.run(lambda model: {}))
    moments = [weakref.ref(state["exp_avg"]) for state in made.optimizer.state.values()]
    assert moments and all(moment() is not None for moment in moments)
    gc.disable()  # nothing is to wait for it
    try:
        made.close()
    finally:
        gc.enable()
    assert not any(moment() is not None for moment in moments)
    assert not held._attachments
    held.verify()  # the model and its mask are still there


def test_a_scaler_s_optimizer_gives_no_warning(parts, monkeypatch, recwarn):
    folder, features, collate = parts
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(accelerator, "scaler", torch.amp.GradScaler("cpu"))
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    recipe = Recipe(**RECIPE | {"batch_size": 8, "max_steps": 2})
    list(FineTuning(model, Collated(features, collate), recipe, accelerator).run(lambda model: {}))
    assert not [one for one in recwarn if "lr_scheduler" in str(one.message)]


def test_max_steps_ends_in_the_middle_of_an_epoch_and_still_evaluates(parts):
    made = tuning(parts, max_steps=6)
    calls = []
    *_, last = made.run(lambda model: calls.append(made.at.step) or {})
    assert calls == [4, 6] and last.step == 6
    assert 0 < last.tokens < sum(made.batches.lengths)


def test_the_weights_are_checked_before_every_evaluation(parts):
    made = tuning(parts)
    happened = []
    made.verify = lambda: happened.append("verify")
    assert len(list(made.run(lambda model: happened.append("evaluate") or {}))) == 3
    assert happened == ["verify", "evaluate"] * 3


class Reads(TorchDispatchMode):
    """Notes the operations whose result or shape depends on values: a GPU must end all that was started before they
    return.
    """

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "repeat_interleave")

    def __init__(self):
        super().__init__()
        self.found, self.seen = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        flags = [i for i in pytree.tree_leaves(args[1:]) if isinstance(i, torch.Tensor) and i.dtype == torch.bool]
        if name in self.NAMES or (name in ("index", "index_put_", "index_put") and flags):
            self.found.append(name)
        self.seen += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("fixed", [False, True], ids=["batches from the host", "batches in fixed shapes"])
def test_a_step_never_waits_for_a_gpu(parts, fixed):
    """Run on the CPU as a GPU runs it: packed for fused kernels, a mask held, the loss kept on the device."""
    folder, features, _ = parts
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert packing.pack(model, AutoTokenizer.from_pretrained(folder), 2) is None
    weights = {name: p for name, p in model.named_parameters() if "query" in name}
    held = hold(model, {name: torch.rand_like(p) < 0.5 for name, p in weights.items()}, "sparse")
    collate = packing.collator(2, model.config.num_attention_heads, fused=True)
    resident = Resident(features, 2, model.config.num_attention_heads, 1, "cpu")
    accelerator = Accelerator(cpu=True)

    def make_step(model, plan):
        return Graphs(model, resident, accelerator, plan.steps, trouble="not wanted")

    recipe = Recipe(batch_size=8, **RECIPE)
    batches = Collated(features, collate)
    made = FineTuning(model, batches, recipe, accelerator, held, make_step if fixed else None)
    made.model.train()
    for examples in (np.arange(8), np.arange(8, 16)):  # the first makes the optimizer's state
        with Reads() as step:
            loss = made.train_step(examples)
            made.at.loss += loss * 8
        assert step.seen > 200 and step.found == []
    with Reads() as reading:
        float(loss), torch.ones(3)[torch.ones(3) > 0]
    assert reading.found == ["_local_scalar_dense", "index"]  # it would have been seen


def test_predictions_are_in_order_whatever_the_batch(parts):
    _, features, collate = parts
    made = tuning(parts)
    one_by_one = predict(made.bare, features, collate, 1, made.accelerator)
    together = predict(made.bare, features, collate, 50, made.accelerator)
    rows = features.rows(range(len(features)))
    with torch.no_grad():
        direct = np.concatenate([made.bare(**collate([inputs])).logits.numpy() for inputs in rows])
    np.testing.assert_allclose(one_by_one, direct, atol=1e-5)
    assert one_by_one.shape == (27, 2) and len(set(map(tuple, one_by_one))) > 5
    np.testing.assert_allclose(one_by_one, together, atol=1e-5)


def test_predictions_go_back_to_the_tasks_labels():
    outputs = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.0, 0.1, 0.9]])
    assert as_labels(outputs).tolist() == [1, 0, 2]
    # the task's label 0 is the model's 2, 1 is its 0, 2 is its 1
    assert as_labels(outputs, (2, 0, 1)).tolist() == [2, 1, 0]
    assert as_labels(np.array([[0.5], [1.5]])).tolist() == [0.5, 1.5]
