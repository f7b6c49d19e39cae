"""Training the words that texts hold, against training all of them: the same bits, in weights and checkpoints."""

from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import save_tiny_model
from junkdna.sparsity.hold import hold
from junkdna.training.fast import cpu_layers, vocabulary
from junkdna.training.finetune import FineTuning
from junkdna.training.predict import collator, predict
from junkdna.training.recipe import Recipe
from junkdna.training.tokens import Collated, tokenise

RECIPE = {"epochs": 2, "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "linear", "seed": 7, "batch_size": 4}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary") / "model"
    save_tiny_model(folder, head=2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [("the cat saw" + " a bird" * (i % 5),) for i in range(18)]
    return str(folder), tokenise(texts, [i % 2 for i in range(18)], tokenizer, 32), tokenizer


def tuning(parts, apart=True, kind=None, masked="encoder.layer.0.output.dense.weight", precision="no", **changes):
    folder, features, tokenizer = parts
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    cpu_layers.replace(model)
    held = None
    if kind:
        name, parameter = next(found for found in model.named_parameters() if found[0].endswith(masked))
        held = hold(model, {name: torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)) < 0.5}, kind)
    words = np.append(features.columns["input_ids"], tokenizer.pad_token_id)
    divide = partial(vocabulary.divide, ids=words) if apart else None
    recipe = Recipe(**RECIPE | changes)
    AcceleratorState._reset_state()  # it refuses a second precision in one process
    batches = Collated(features, collator(tokenizer))
    return FineTuning(model, batches, recipe, Accelerator(cpu=True, mixed_precision=precision), held, divide=divide)


def trained(made, seen=None):
    """Train to the end; note the outputs after each epoch."""
    outputs = [] if seen is None else seen

    def evaluate(model):
        outputs.append(predict(model, made.batches.features, made.batches.collate, 6, made.accelerator))
        return {}

    list(made.run(evaluate))
    return made.bare.state_dict(), outputs


def assert_same(one, other, at="state"):
    """Nested values and tensors, to the last bit."""
    assert type(one) is type(other), at
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), at
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), at
        for name in one:
            assert_same(one[name], other[name], f"{at}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), at
        for i, pair in enumerate(zip(one, other)):
            assert_same(*pair, f"{at}.{i}")
    elif at.rsplit(".")[-1] not in ("seconds", "train_seconds", "eval_seconds"):
        assert one == other, at


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("kind", [None, "sparse", "frozen", "free"])
def test_weights_outputs_and_checkpoints_are_those_of_the_whole_vocabulary(parts, kind, precision):
    mine = tuning(parts, True, kind, precision=precision)
    size = mine.bare.get_input_embeddings().num_embeddings
    assert 0 < len(mine.apart.rows) < size / 2
    before = mine.bare.get_input_embeddings().weight.detach().clone()
    weights, outputs = trained(mine)
    state = mine.state()
    whole = tuning(parts, False, kind, precision=precision)  # building it seeds dropout
    expected, wanted = trained(whole)
    assert_same(weights, expected)
    assert_same(state, whole.state())
    assert all(map(np.array_equal, outputs, wanted)) and not np.array_equal(*outputs)
    moved = (mine.bare.get_input_embeddings().weight != before).any(dim=1)
    assert set(moved.nonzero().flatten().tolist()) < set(mine.apart.rows.tolist()) and moved.any()


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_a_checkpoint_of_either_way_is_gone_on_from_by_either(parts, before, after):
    first, states = tuning(parts, before), []
    list(first.run(lambda model: {}, save=lambda: states.append(copied(first.state())), save_every=3))
    second = tuning(parts, after)
    second.load_state(states[0])
    assert second.at.step == 3 and not second.ended
    assert_same(trained(second)[0], first.bare.state_dict())
    assert_same(second.state()["optimizer"], first.state()["optimizer"])


def copied(state):
    """A state as it is now; its tensors are the training's own."""
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {name: copied(value) for name, value in state.items()}
    return [copied(value) for value in state] if isinstance(state, list) else state


def test_the_optimizer_holds_moments_of_the_words_that_texts_hold(parts):
    made = tuning(parts)
    made.train_step(np.arange(4))
    sizes = [value["exp_avg"].shape for value in made.optimizer.state.values()]
    whole = made.bare.get_input_embeddings().weight.shape
    assert (len(made.apart.rows), whole[1]) in sizes and whole not in sizes
    assert made.bare.get_input_embeddings().weight.grad is None


def test_what_is_checked_before_an_evaluation_has_the_words_of_the_last_step(parts):
    apart, whole = (tuning(parts, apart=apart) for apart in (True, False))
    for made in (apart, whole):
        for start in (0, 4):  # the first step's rate is 0
            made.train_step(np.arange(start, start + 4))
        made.verify()
    assert_same(apart.bare.state_dict(), whole.bare.state_dict())


@pytest.mark.parametrize(
    "changes", [{"weight_decay": 0.1}, {"kind": "sparse", "masked": "word_embeddings.weight"}, {"apart": False}]
)
def test_a_vocabulary_that_decays_or_is_masked_or_unknown_stays_whole(parts, changes):
    assert tuning(parts, **changes).apart is None


def test_most_of_a_vocabulary_is_trained_whole(parts):
    made = tuning(parts, apart=False)
    size = made.bare.get_input_embeddings().num_embeddings
    assert vocabulary.divide(made.bare, None, np.arange(int(size * vocabulary.WORTH) + 1)) is None
    assert vocabulary.divide(made.bare, None, np.arange(int(size * vocabulary.WORTH))) is not None


@pytest.mark.parametrize(("processes", "apart"), [(1, True), (2, False)])
def test_one_process_that_could_have_had_others_is_one(parts, processes, apart, monkeypatch):
    """As ``torchrun --nproc_per_node 1`` starts it."""
    made = tuning(parts)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: processes)
    made.bare.train()(input_ids=torch.tensor([[int(made.apart.rows[0])]])).logits.sum().backward()
    assert (made.apart.weight.grad is not None) == apart
    assert (made.bare.get_input_embeddings().weight.grad is None) == apart


def test_rows_that_a_failed_training_has_left_are_forgotten(parts):
    made = tuning(parts)
    size = made.bare.get_input_embeddings().num_embeddings
    assert vocabulary.divide(made.bare, None, np.arange(size)) is None
    made.bare.train()(input_ids=torch.tensor([[1]])).logits.sum().backward()
    assert made.bare.get_input_embeddings().weight.grad is not None and made.apart.weight.grad is None


def test_what_another_training_gave_is_taken_over(parts):
    first, second = tuning(parts), tuning(parts)
    trained(first)
    second.take_over(first.outcome({}))
    assert second.ended
    assert_same(second.state()["model"], first.bare.state_dict())


def test_a_training_that_is_closed_leaves_the_model_as_torch_has_it(parts):
    made = tuning(parts)
    trained(made)
    made.close()
    words = made.bare.get_input_embeddings()
    words(torch.tensor([[1, 2]])).sum().backward()
    assert words.weight.grad is not None and torch.equal(words(torch.tensor([1])), words.weight[1:2])
    assert not [name for name, _ in made.bare.named_parameters() if "some" in name]


def test_a_word_that_was_not_announced_is_an_error(parts):
    made = tuning(parts)
    unseen = next(i for i in range(made.bare.get_input_embeddings().num_embeddings) if i not in made.apart.rows)
    with pytest.raises(IndexError):
        made.bare.train()(input_ids=torch.tensor([[unseen]]))
