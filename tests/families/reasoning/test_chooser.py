"""Questions in batches against the library's own model for multiple choice, padded, for several types of encoders."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

from conftest import BAD, GOOD, SUBJECTS, VERBS, save_tiny_model
from junkdna.families.reasoning.chooser import Chooser, Questions
from junkdna.training import predict
from junkdna.training.bucketing import Grain
from junkdna.training.fast import packing
from junkdna.training.tokens import tokenise

CHOICES = 3
TYPES = ("electra", "mpnet", "albert", "deberta-v2")

PAIRS = [
    (
        " ".join([*SUBJECTS[: 1 + row % 4], VERBS[row]]),
        f"{(GOOD + BAD)[row + place]} and {VERBS[place]}" * (1 + place % 2),
    )
    for row in range(6)
    for place in range(CHOICES)
]
LABELS = np.array([0, 2, 1, 1, 0, 2])


@pytest.mark.parametrize("model_type", TYPES)
def test_loss_and_gradients_are_those_of_the_librarys_model(model_type, tmp_path):
    save_tiny_model(tmp_path, model_type=model_type)
    chooser = Chooser(str(tmp_path), "main")
    model = chooser.reset(3)
    plain = AutoModelForMultipleChoice.from_pretrained(tmp_path, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(*map(list, zip(*PAIRS)), padding=True, return_tensors="pt")
    batch = {name: x.view(len(LABELS), CHOICES, -1) for name, x in batch.items()}
    loss = plain.eval()(**batch, labels=torch.from_numpy(LABELS)).loss
    loss.backward()
    assert (chooser.unpacked is None) == (model_type in packing.FAMILIES)
    collators = {"padded": predict.collator(tokenizer)}
    if chooser.unpacked is None:
        collators["packed"] = packing.collator(chooser.first_position, chooser.config.num_attention_heads)
    features = tokenise(PAIRS, [0] * len(PAIRS), tokenizer, 64)
    for words, collate in collators.items():
        arranged = lambda inputs, collate=collate: chooser.arrange(collate(inputs))  # noqa: E731
        questions = Questions(features, LABELS, CHOICES, arranged, grain=Grain(1) if words == "padded" else None)
        parts = questions.parts(np.arange(len(LABELS)))
        assert (len(parts) > 1) == (words == "padded")
        model.eval().zero_grad()  # without dropout
        shares = [questions.loss(model, questions.batch(part)) * len(part) / len(LABELS) for part in parts]
        sum(shares).backward()
        assert sum(shares).item() == pytest.approx(loss.item(), abs=1e-6)
        found = dict(model.named_parameters())
        for name, wanted in plain.named_parameters():
            torch.testing.assert_close(found[name].grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=f"{words} {name}")
