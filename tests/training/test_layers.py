"""The CPU's own layers against torch's."""

import pytest
import torch
from torch import nn

from conftest import save_tiny_model
from junkdna.training.dropout import keep, kept_share
from junkdna.training.fast import cpu_layers as layers
from junkdna.training.fast.cpu_layers import Dropout, WordEmbedding

IDS = [torch.tensor([[3, 1, 3], [7, 0, 3]]), torch.tensor([[2, 7], [7, 7]]), torch.tensor([[5, 5]])]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_as_many_are_dropped_as_asked(p):
    torch.manual_seed(0)
    kept = keep(torch.empty(1000, 1000), p)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert abs(kept_share(p) - (1 - p)) < 2**-16
    assert abs(float(kept.mean()) - kept_share(p)) < 5 * (p * (1 - p)) ** 0.5 / 1000


def test_each_element_is_dropped_by_itself():
    """Neighbours, and the same place in the next draw, tell nothing of each other; draws follow torch's seed alone."""
    torch.manual_seed(0)
    first, second = keep(torch.empty(999, 1001), 0.3), keep(torch.empty(999, 1001), 0.3)
    for one, other in (
        (first, second),
        (first[1:], first[:-1]),
        (first[:, 1:], first[:, :-1]),
        (first[:, 4:], first[:, :-4]),
    ):
        assert abs(float(torch.corrcoef(torch.stack([one.reshape(-1), other.reshape(-1)]))[0, 1])) < 0.005
    torch.manual_seed(0)
    assert torch.equal(keep(torch.empty(999, 1001), 0.3), first)
    assert torch.equal(keep(torch.empty(999, 1001, dtype=torch.bfloat16), 0.3).float(), second)


def test_dropout_is_torchs_in_all_but_its_bits():
    x = torch.randn(64, 64, requires_grad=True)
    drop = Dropout(0.25)
    y = drop(x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 1 / torch.tensor(0.75)))
    assert torch.equal(y, x * x.grad) and 0.2 < float((y == 0).float().mean()) < 0.3
    assert drop(x.bfloat16()).dtype == torch.bfloat16
    assert torch.equal(drop.eval()(x), x) and torch.equal(Dropout(0.0)(x), x) and not Dropout(1.0)(x).any()


def train(embedding, weight_decay=0.0, mask=None):
    """Three steps, the second on two batches; return the weights after each."""
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1, weight_decay=weight_decay, fused=True)
    seen = []
    for batches in ([IDS[0]], [IDS[1], IDS[0]], [IDS[2]]):
        for ids in batches:
            ((embedding(ids) + 1) ** 2).sum().backward()
        if mask is not None:
            embedding.weight.grad.mul_(mask)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen.append(embedding.weight.detach().clone())
    return seen


@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_embeddings_train_as_torchs(padding, masked):
    torch.manual_seed(0)
    plain = nn.Embedding(8, 4, padding_idx=padding)
    own = WordEmbedding(nn.Embedding.from_pretrained(plain.weight.detach().clone(), freeze=False, padding_idx=padding))
    mask = torch.rand(8, 4) < 0.5 if masked else None
    for mine, theirs in zip(train(own, 0.1, mask), train(plain, 0.1, mask), strict=True):
        assert torch.equal(mine, theirs)


def test_the_gradient_is_one_tensor_with_nothing_left_of_the_step_before():
    own = WordEmbedding(nn.Embedding(8, 4))
    own(IDS[0]).sum().backward()
    first = own.weight.grad
    own.weight.grad = None
    own(IDS[2]).sum().backward()
    assert own.weight.grad is first and first.any(1).tolist() == [row == 5 for row in range(8)]


def test_a_model_keeps_its_parameters(tmp_path):
    from transformers import AutoModelForSequenceClassification as Model

    save_tiny_model(tmp_path)
    model = Model.from_pretrained(tmp_path)
    before = {name: (id(p), p.dtype) for name, p in model.named_parameters()}
    dropouts = sum(isinstance(module, nn.Dropout) for module in model.modules())
    layers.replace(model)
    assert {name: (id(p), p.dtype) for name, p in model.named_parameters()} == before
    assert isinstance(model.get_input_embeddings(), WordEmbedding)
    assert sum(type(module) is Dropout for module in model.modules()) == dropouts > 3
    assert not any(module.training for module in model.modules())


def test_a_model_without_word_embeddings_keeps_what_it_has(monkeypatch, tmp_path):
    from transformers import AutoModelForSequenceClassification as Model

    save_tiny_model(tmp_path)
    model = Model.from_pretrained(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(type(model), "get_input_embeddings", lambda self: exec("raise NotImplementedError"))
        layers.replace(model)
    assert type(model.get_input_embeddings()) is nn.Embedding


def test_a_weight_that_is_used_twice_keeps_torchs_gradient(tmp_path):
    from transformers import AutoModelForSequenceClassification as Model

    save_tiny_model(tmp_path)
    model = Model.from_pretrained(tmp_path)
    model.twin = nn.Embedding(*model.get_input_embeddings().weight.shape)
    model.twin.weight = model.get_input_embeddings().weight
    layers.replace(model)
    assert type(model.get_input_embeddings()) is nn.Embedding


def test_a_step_in_evaluation_mode_leaves_nothing_behind():
    own = WordEmbedding(nn.Embedding(8, 4))
    for mode, ids in ((True, 1), (False, 5), (True, 2)):
        own.weight.grad = None
        own.train(mode)(torch.tensor([ids])).sum().backward()
        assert own.weight.grad.any(1).tolist() == [row == ids for row in range(8)]
