"""Sentence pairs as batches: what a model reads and is to write, what a step's loss is, how an epoch is mixed."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from accelerate import Accelerator

from junkdna.families.translation import batches
from junkdna.families.translation.batches import IGNORED, Rows, Sentences
from junkdna.models.translator import Translator
from junkdna.training.bucketing import FINE, Grain
from junkdna.training.finetune import FineTuning
from junkdna.training.recipe import Recipe

RECIPE = {"epochs": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "linear", "seed": 7}


@pytest.fixture(scope="module")
def translators(tmp_path_factory):
    """Tiny models without dropout, by kind, each made when it is asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            folder = tiny.save(kind, tmp_path_factory.mktemp(kind) / "model")
            made[kind] = Translator(folder, dropout=0.0)
        return made[kind]

    return get


def sentences(translator, source="en", target="de", rows=6, **more):
    texts, answers = tiny.parallel(f"{source}-{target}", rows)
    way = translator.direction(source, target, trained=True)
    read = Rows.of([way.inputs(ids) for ids in translator.encode(texts)])
    labels = Rows.of([way.labels(ids) for ids in translator.encode(answers, target=True)])
    return Sentences(read, labels, np.full(rows, way.start), (rows,), translator.config.pad_token_id, **more)


def test_rows_are_flat_and_come_back():
    rows = Rows.of([[1, 2, 3], [], [4]])
    assert [row.tolist() for row in map(rows.__getitem__, range(3))] == [[1, 2, 3], [], [4]]
    assert len(rows) == 3 and rows.lengths.tolist() == [3, 0, 1]
    kept = rows.where(np.array([True, True, False]))
    assert kept.ids.tolist() == [1, 2, 3] and kept.lengths.tolist() == [3, 0]
    both = Rows.joined([kept, rows])
    assert both.lengths.tolist() == [3, 0, 3, 0, 1] and both[4].tolist() == [4]


def test_padding_stands_behind_the_end_and_never_counts(translators):
    made = sentences(translators("mbart"))
    batch = made.batch(np.arange(6))
    lengths = made.labels.lengths
    assert len(set(lengths)) > 1 and batch["labels"].shape == (6, max(lengths))
    for row, length in zip(batch["labels"], lengths):
        assert (row[:length] != IGNORED).all() and (row[length:] == IGNORED).all()
    for row, mask, length in zip(batch["input_ids"], batch["attention_mask"], made.source.lengths):
        assert mask.sum() == length and (row[length:] == 1).all()
    # what the decoder reads is what it is to write, one place later, behind the language that it writes
    german = translators("mbart").direction("en", "de").start
    for read, written, length in zip(batch["decoder_input_ids"], batch["labels"], lengths):
        assert read[0] == german and torch.equal(read[1:length], written[: length - 1])


@pytest.mark.parametrize("kind", ["mbart", "mbart50", "nllb"])
def test_the_loss_is_that_of_the_librarys_own_tokenizer_and_model(kind, translators):
    """Language codes, shift and padding as the class's own tokenizer and model make them of the same texts."""
    translator = translators(kind)
    way = translator.direction("en", "de", trained=True)
    tokenizer, model = translator.tokenizer, translator.model.eval()
    tokenizer.src_lang, tokenizer.tgt_lang = way.source_code, way.target_code
    texts, answers = tiny.parallel("en-de", 6)
    batch = tokenizer(texts, text_target=answers, padding=True, return_tensors="pt")
    batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
    made = sentences(translator)
    ours = made.batch(np.arange(6))
    assert torch.equal(batch["input_ids"], ours["input_ids"]) and torch.equal(batch["labels"], ours["labels"])
    with torch.no_grad():  # mBART's shift begins with the last label, the language or the end, M2M100's with the end
        torch.testing.assert_close(model(**batch).loss, made.loss(model, ours))


def test_smoothing_is_spread_over_the_whole_vocabulary(translators):
    translator = translators("mbart")
    made = sentences(translator, smoothing=0.2)
    batch = made.batch(np.arange(6))
    with torch.no_grad():
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logs = translator.model.eval()(**inputs).logits.log_softmax(-1)
        real = batch["labels"] != IGNORED
        of_label = logs.gather(-1, batch["labels"].clamp(min=0)[..., None])[..., 0]
        by_hand = -(0.8 * of_label + 0.2 * logs.mean(-1))[real].mean()
        torch.testing.assert_close(made.loss(translator.model, batch), by_hand)
        plain = float(-of_label[real].sum())
    assert float(made.sum_of_losses(translator.model, batch)) == pytest.approx(plain, rel=1e-5)
    found = batches.evaluator({"en-de": made}, 4, Accelerator(cpu=True))(translator.model)
    assert found == {"eval_loss": pytest.approx(plain / int(real.sum()), rel=1e-5)}


# --- a step ----------------------------------------------------------------------------------------------------------


def gradients(translator, made, examples, **changes):
    """The gradient of one step, and its loss."""
    recipe = Recipe(**RECIPE | {"batch_size": len(examples)} | changes)
    tuning = FineTuning(translator.reset(0), made, recipe, Accelerator(cpu=True))
    tuning.model.train()
    found = {}
    tuning._update = lambda: found.update({name: p.grad.clone() for name, p in tuning.bare.named_parameters()})
    loss = tuning.train_step(examples)
    return found, loss


def assert_equal(one, other):
    torch.testing.assert_close(one[1], other[1])
    for name in one[0]:
        torch.testing.assert_close(one[0][name], other[0][name], rtol=1e-4, atol=1e-6)


def test_a_step_divided_by_length_is_the_step_of_one_padded_batch(translators):
    translator = translators("mbart")
    whole, divided = (sentences(translator, rows=24, smoothing=0.1, grain=Grain(worth)) for worth in (10**6, 8))
    examples = np.random.default_rng(0).permutation(24)
    assert [part.tolist() for part in whole.parts(examples)] == [examples.tolist()]  # too little to save
    parts = divided.parts(examples)
    assert len(parts) > 2 and sorted(np.concatenate(parts)) == list(range(24))
    tokens = [int(divided.lengths[part].min()) for part in parts]
    assert tokens == sorted(tokens, reverse=True)
    one = gradients(translator, whole, examples)
    assert_equal(one, gradients(translator, divided, examples))
    assert max(float(value.abs().max()) for value in one[0].values()) > 1e-2


def test_parts_are_few_and_save_what_they_should():
    draw = np.random.default_rng(1)
    lengths = draw.integers(5, 40, 64)
    rows = Rows.of([[7] * size for size in lengths])
    worth = FINE.worth
    made = Sentences(rows, rows, np.zeros(64, int), (64,), 1, grain=FINE)
    parts = made.parts(np.arange(64))
    padded = [len(part) * 2 * lengths[part].max() for part in parts]
    whole, real = 64 * 2 * lengths.max(), 2 * lengths.sum()
    assert 2 <= len(parts) <= 8 and sum(padded) <= whole - worth * (len(parts) - 1)
    assert sum(padded) - real < 0.4 * (whole - real)
    equal = Rows.of([[7] * 40] * 64)
    same = Sentences(equal, equal, np.zeros(64, int), (64,), 1, grain=Grain(1))
    assert len(same.parts(np.arange(64))) == len(made.parts(np.array([3]))) == 1


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 3), (5, 3)])
def test_accumulated_batches_weigh_their_target_tokens(translators, batch_size, accumulation):
    translator = translators("mbart")
    made = sentences(translator, rows=12)
    examples = np.arange(12)
    divided = gradients(translator, made, examples, batch_size=batch_size, accumulation=accumulation)
    assert_equal(gradients(translator, made, examples), divided)


def test_processes_weigh_their_target_tokens(translators):
    """Each of two processes adds its share of the mean over the step's target tokens; none is left without a batch."""
    made = sentences(translators("mbart"), rows=7)
    examples, total = np.arange(7), made.weight(np.arange(7))
    whole = []
    for rank in range(2):
        accelerator = SimpleNamespace(num_processes=2, process_index=rank)
        recipe = SimpleNamespace(batch_size=3)
        fake = SimpleNamespace(accelerator=accelerator, recipe=recipe, batches=made)
        whole += FineTuning._batches(fake, examples)
    assert sum(weight for _, weight in whole) == pytest.approx(1)
    assert [weight for _, weight in whole if weight == 0] == [0.0]  # the seventh leaves the other process a spare one
    for indices, weight in whole:
        assert weight in (0.0, made.weight(indices) / total)


# --- a mix of language pairs -----------------------------------------------------------------------------------------


def test_shares_go_by_size_to_one_over_the_temperature():
    assert batches.shares((1000, 100, 10), 1.0) == [1000, 100, 10]
    even = batches.shares((1000, 100, 10), 1e9)
    assert even == [370, 370, 370]
    parts = np.array([1000.0, 100.0]) ** (1 / 1.5)
    found = batches.shares((1000, 100), 1.5)
    assert sum(found) == 1100 and abs(found[0] - 1100 * parts[0] / parts.sum()) <= 0.5
    assert batches.shares((1000, 100, 10), 1e-3) == batches.shares((1000, 100, 10), 5e-324) == [1108, 1, 1]
    assert batches.shares((10**6, 1), 1.0) == [10**6, 1] and min(batches.shares((10**6, 1, 1), 0.5)) == 1


def test_a_mixed_epoch_takes_every_pair_in_turn_and_depends_on_seed_and_epoch_alone():
    rows = Rows.of([[5]] * 110)
    made = Sentences(rows, rows, np.zeros(110, int), (100, 10), 1, temperature=1e9)
    order = made.order(41, 0)
    assert len(order) == 110 and np.array_equal(order, made.order(41, 0))
    assert not np.array_equal(order, made.order(41, 1)) and not np.array_equal(order, made.order(42, 0))
    counts = np.bincount(order, minlength=110)
    assert counts[:100].sum() == counts[100:].sum() == 55
    assert set(counts[:100]) == {0, 1} and set(counts[100:]) == {5, 6}
    exact = Sentences(rows, rows, np.zeros(110, int), (100, 10), 1, temperature=1.0)
    assert sorted(exact.order(41, 0)) == list(range(110))
    single = Sentences(rows, rows, np.zeros(110, int), (110,), 1, temperature=5.0)
    from junkdna.training.recipe import order as plain

    assert np.array_equal(single.order(3, 1), plain(3, 1, 110))


def test_a_step_costs_what_its_examples_cost_however_many_others_there_are():
    rows = Rows.of([[5] * (1 + number % 7) for number in range(100)])
    made = Sentences(rows, rows, np.zeros(100, int), (100,), 1)
    assert made.lengths is made.lengths and made.labels.lengths is made.labels.lengths  # worked out once, not each step
