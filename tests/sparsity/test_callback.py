"""HoldMasks beyond the table: when it verifies, what it does when it resumes, and what it refuses."""

import pytest
import torch
import transformers
from api_table import Case, Net, batches, new_model

import junkdna as jd
from junkdna.sparsity.hold import Held

STEPS = 6


def make_trainer(folder, callback, model=None, init=None, **more):
    draw = batches()
    rows = [{name: value[i] for name, value in next(draw).items()} for _ in range(STEPS) for i in range(4)]
    settings = {"max_steps": STEPS, "save_steps": 3, "logging_strategy": "no", "learning_rate": 0.01} | more
    arguments = transformers.TrainingArguments(
        folder, use_cpu=True, per_device_train_batch_size=4, report_to=[], disable_tqdm=True,
        remove_unused_columns=False, lr_scheduler_type="constant", **settings,
    )  # fmt: skip
    return transformers.Trainer(
        model, arguments, train_dataset=rows, eval_dataset=rows, model_init=init,
        callbacks=[callback] if callback else [],
    )  # fmt: skip


@pytest.fixture
def case():
    return Case("AdamW", "sparse", "fp32")


@pytest.fixture
def verified(monkeypatch):
    """At which steps the weights were verified. Attaching verifies too."""
    calls, verify = [], Held._verify
    monkeypatch.setattr(Held, "_verify", lambda self, matrices: calls.append(1) or verify(self, matrices))
    return calls


def test_weights_are_verified_before_every_evaluation_and_save(case, verified, tmp_path):
    callback = jd.HoldMasks(case.masks, "sparse")
    order = []

    class Watch(transformers.TrainerCallback):
        def on_save(self, *args, **others):
            order.append(("saved", len(verified)))

        def on_evaluate(self, *args, **others):
            order.append(("evaluated", len(verified)))

    made = make_trainer(tmp_path, callback, new_model(case.dtype), eval_strategy="steps", eval_steps=2)
    made.add_callback(Watch())
    made.train()
    assert order == [("evaluated", 2), ("saved", 3), ("evaluated", 4), ("evaluated", 5), ("saved", 5)]
    assert len(verified) == 6  # once to attach, once after each of four steps, once at the end
    assert not callback.held._attachments
    jd.verify(made.model, case.masks)


def test_a_mask_that_breaks_stops_the_trainer_before_it_saves(case, tmp_path):
    class Break(transformers.TrainerCallback):
        def on_optimizer_step(self, args, state, control, model, **others):
            with torch.no_grad():
                model.first.weight += 0.1

    made = make_trainer(tmp_path, jd.HoldMasks(case.masks, "sparse"), new_model(case.dtype))
    made.callback_handler.callbacks.insert(0, Break())
    with pytest.raises(jd.MaskBroken, match=r"removed weights of first\.weight are not 0"):
        made.train()
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.parametrize("late", [False, True], ids=["given to the Trainer", "added later"])
def test_what_has_grown_again_is_not_zeroed_by_a_resume(late, case, tmp_path):
    def start(folder, steps, resume=False):
        callback = jd.HoldMasks(case.masks, "free")
        made = make_trainer(folder, None if late else callback, new_model(case.dtype), max_steps=steps)
        if late:
            made.add_callback(callback)
        made.train(resume_from_checkpoint=resume)
        return made.model.state_dict()

    straight = start(tmp_path / "straight", STEPS)
    start(tmp_path / "resumed", 3)
    resumed = start(tmp_path / "resumed", STEPS, resume=True)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert all((resumed[name][~mask] != 0).float().mean() > 0.5 for name, mask in case.masks.items())


def test_a_checkpoint_of_other_weights_is_refused(case, tmp_path):
    make_trainer(tmp_path, None, new_model(case.dtype), max_steps=3).train()  # dense
    made = make_trainer(tmp_path, jd.HoldMasks(case.masks, "sparse"), new_model(case.dtype))
    with pytest.raises(jd.MaskBroken):
        made.train(resume_from_checkpoint=True)


def test_a_model_made_anew_is_held(case, tmp_path):
    def init():
        torch.manual_seed(3)
        return Net()

    callback = jd.HoldMasks(case.masks, "frozen")
    made = make_trainer(tmp_path, callback, init=init)
    first = callback.held.model
    made.train()
    assert callback.held.model is made.model and made.model is not first
    for name, mask in case.masks.items():
        assert torch.equal(made.model.get_parameter(name)[~mask], case.start[name][~mask])
        assert (made.model.get_parameter(name) != case.start[name])[mask].any()


def test_one_callback_trains_twice(case, tmp_path):
    callback = jd.HoldMasks(case.masks)
    made = make_trainer(tmp_path, callback, new_model(case.dtype), save_strategy="no")
    made.train()
    made.optimizer = None
    made.train()
    assert jd.verify(made.model, case.masks) > 0


def test_the_best_checkpoint_is_verified_after_it_is_loaded(case, tmp_path):
    more = {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True}
    made = make_trainer(tmp_path, jd.HoldMasks(case.masks), new_model(case.dtype), **more)
    made.train()
    assert made.state.best_model_checkpoint and jd.verify(made.model, case.masks) > 0


def test_deepspeed_is_refused(case):
    class Arguments:
        deepspeed = "zero.json"

    callback = jd.HoldMasks(case.masks)
    with pytest.raises(jd.UserError, match=r"^deepspeed: masks cannot be held in its optimizer"):
        callback.on_train_begin(Arguments(), None, None, new_model(case.dtype), None)
