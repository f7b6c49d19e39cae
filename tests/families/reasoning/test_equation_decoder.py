"""The decoder: its arithmetic against another implementation, its searches against the search of everything."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from junkdna.errors import UserError
from junkdna.families.reasoning.decoder import IGNORED, EquationDecoder, labels_of
from junkdna.families.reasoning.equations import parse
from junkdna.families.reasoning.problems import Problem
from junkdna.families.reasoning.vocabulary import END, PAD, START, Vocabulary
from junkdna.families.reasoning.writing import Grammar, write
from junkdna.sparsity.scope import find_scope

WIDTH = 16
WORDS = Vocabulary.of([Problem("x", "", (), ("+", "number0", "number1", "2.0"), 0.0)])
LENGTHS = (5, 2, 7, 1, 4)


def decoder(seed=0, symbols=None, **settings):
    torch.manual_seed(seed)
    settings = {"layers": 2, "heads": 2, "inner": 24, "dropout": 0.0, "most": 9} | settings
    return EquationDecoder(symbols or len(WORDS), WIDTH, **settings).eval()


def texts(seed=1, lengths=LENGTHS):
    """Padded states of an encoder, and their mask; what stands in the padding is large, and must not matter."""
    torch.manual_seed(seed)
    states = torch.randn(len(lengths), max(lengths), WIDTH)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return states + 100 * (1 - mask[..., None]), mask


def sharp(seed=3, **settings):
    """A decoder that is sure of what it writes, so that its equations differ from text to text."""
    made = decoder(seed, **settings)
    made.output.weight.data *= 12
    return made


LABELS = labels_of([(3, 7, 8, END), (7, END), (4, 3, 7, 8, 9, END), (9, END), (5, 7, 7, END)])

# --- teacher forcing -------------------------------------------------------------------------------------------------


def reference(ours, states, mask, labels):
    """The logits as torch's own decoder has them."""
    layers = []
    for layer in ours.layers:
        torchs = nn.TransformerDecoderLayer(WIDTH, 2, 24, 0.0, "gelu", batch_first=True, norm_first=True)
        for own, attention in ((torchs.self_attn, layer.written), (torchs.multihead_attn, layer.read)):
            parts = (attention.query, attention.key, attention.value)
            own.in_proj_weight.data = torch.cat([part.weight for part in parts])
            own.in_proj_bias.data = torch.cat([part.bias for part in parts])
            own.out_proj = attention.output
        torchs.linear1, torchs.linear2 = layer.wide, layer.narrow
        torchs.norm1, torchs.norm2, torchs.norm3 = layer.before_written, layer.before_read, layer.before_wide
        layers.append(torchs.eval())
    inputs = torch.tensor([[START, *(max(label, PAD) for label in row[:-1])] for row in labels.tolist()])
    hidden = ours.symbols(inputs) + ours.places.weight[: inputs.shape[1]]
    later = torch.ones(inputs.shape[1], inputs.shape[1]).triu(1).bool()
    for layer in layers:
        hidden = layer(hidden, states, tgt_mask=later, memory_key_padding_mask=mask == 0)
    return ours.output(ours.normal(hidden))


def test_the_same_as_torchs_own_layers():
    ours, (states, mask) = decoder(), texts()
    found = ours(states, mask, LABELS, smoothing=0.1)
    expected = reference(ours, states, mask, LABELS)
    kept = LABELS != IGNORED
    assert (found.logits[kept] - expected[kept]).abs().max() < 1e-5
    logs = expected[kept].log_softmax(-1)
    right = logs.gather(1, LABELS[kept][:, None])[:, 0]
    assert found.loss.item() == pytest.approx(-(0.9 * right + 0.1 * logs.mean(1)).mean().item(), abs=1e-5)
    assert ours(states, mask, LABELS).loss.item() == pytest.approx(-right.mean().item(), abs=1e-5)


def test_rows_alone_give_what_they_give_together():
    ours, (states, mask) = decoder(), texts()
    whole = ours(states, mask, LABELS).logits
    for row, length in enumerate(LENGTHS):
        own = LABELS[row : row + 1, : int((LABELS[row] != IGNORED).sum())]
        alone = ours(states[row : row + 1, :length], mask[row : row + 1, :length], own).logits
        assert (alone[0] - whole[row, : own.shape[1]]).abs().max() < 1e-5


def test_every_matrix_learns_and_can_be_in_scope():
    ours, (states, mask) = decoder(), texts()
    ours.train()(states, mask, LABELS).loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in ours.named_parameters() if "key.bias" not in name)
    scope = find_scope(ours, embeddings=False)
    assert len(scope.matrices) == 2 * (4 + 4 + 2) + 1 and not {"symbols.weight", "places.weight"} & set(scope.matrices)


def test_what_it_cannot_be_made_of():
    with pytest.raises(UserError, match="decoder_heads 3: does not divide the encoder's width, 16"):
        decoder(heads=3)
    ours, (states, mask) = decoder(most=2), texts()
    with pytest.raises(ValueError, match="an equation of 5 symbols is longer than 2"):
        ours(states, mask, LABELS)


def test_it_learns_to_read_the_text():
    """What to write stands in the text: a sign for each symbol, in their order. Steps by the signs of gradients."""
    torch.manual_seed(0)
    signs = torch.randn(len(WORDS), WIDTH)
    wanted = [(op, a, b, END) for op in (3, 4, 5, 6) for a in (7, 8) for b in (7, 8, 9)]
    states = torch.stack([signs[list(one[:3])] + torch.eye(3, WIDTH) for one in wanted])
    mask, ours = torch.ones(states.shape[:2]), decoder().train()
    weights, steps = list(ours.parameters()), 40
    for step in range(steps):
        gradients = torch.autograd.grad(ours(states, mask, labels_of(wanted)).loss, weights)
        for weight, gradient in zip(weights, gradients):
            weight.data -= 0.02 * (1 - step / steps) * gradient.sign()
    found = write(ours.eval(), states, mask)
    assert sum(one.ids == equation[:3] for one, equation in zip(found, wanted)) >= 22


# --- writing ---------------------------------------------------------------------------------------------------------


def log_probabilities(ours, states, mask, equations):
    """Those of each equation's symbols, summed: (equations,); of one text, and where two specials cannot be written."""
    labels, count = labels_of(equations), len(equations)
    logits = ours(states.expand(count, -1, -1), mask.expand(count, -1), labels).logits
    logits[..., [PAD, START]] = -torch.inf
    found = logits.log_softmax(-1).gather(2, labels.clamp(min=END)[..., None])[..., 0]
    return found.masked_fill(labels == IGNORED, 0).sum(1)


def greedy(ours, states, mask):
    """One text's equation, symbol by symbol, without anything kept."""
    ids = []
    while len(ids) <= ours.most:
        logits = ours(states, mask, torch.tensor([[*ids, END]])).logits[0, -1]
        logits[[PAD, START]] = -torch.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == END:
            return tuple(ids[:-1]), "end"
    return tuple(ids[: ours.most]), "length"


@torch.no_grad()
def test_greedy_is_the_best_symbol_each_time():
    ours, (states, mask) = sharp(), texts(lengths=(5, 2, 7, 1, 4, 3, 6, 2))
    found = write(ours, states, mask)
    expected = [greedy(ours, states[i : i + 1], mask[i : i + 1]) for i in range(len(states))]
    assert [(one.ids, one.ended) for one in found] == expected
    assert {one.ended for one in found} == {"end", "length"} and len({one.ids for one in found}) >= 4


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("grammar", [False, True])
def test_the_same_at_any_batch_size(beams, grammar):
    ours, (states, mask) = sharp(), texts(lengths=(5, 2, 7, 1, 4, 3, 6, 2))

    def some(rows):
        longest = int(mask[rows].sum(1).max())
        kept = Grammar.of(WORDS, [2] * len(rows)) if grammar else None
        return write(ours, states[rows][:, :longest], mask[rows][:, :longest], beams=beams, grammar=kept)

    whole = some(list(range(8)))
    for size in (1, 3):
        assert [one for start in range(0, 8, size) for one in some(list(range(8))[start : start + size])] == whole


@torch.no_grad()
def test_enough_beams_find_the_best_of_all():
    """Three symbols and END, three places: all equations are tried."""
    ours, (states, mask) = sharp(symbols=6, most=3), texts()
    plain = [3, 4, 5]
    everything = [ids for count in range(4) for ids in itertools.product(plain, repeat=count)]
    for row in range(len(states)):
        one = states[row : row + 1], mask[row : row + 1]
        sums = log_probabilities(ours, *one, [(*ids, END) for ids in everything]).tolist()
        ranks = {ids: total / (len(ids) + 1) for ids, total in zip(everything, sums)}
        best = write(ours, *one, beams=200)[0]
        assert best.ended == "end" and ranks[best.ids] >= max(ranks.values()) - 1e-5


@torch.no_grad()
def test_beams_find_more_than_the_greedy_way():
    ours, (states, mask) = sharp(seed=8), texts(lengths=(3,) * 12)

    def rank(one, row):
        total = log_probabilities(ours, states[row : row + 1], mask[row : row + 1], [(*one.ids, END)])
        return total.item() / (len(one.ids) + 1)

    few, many = write(ours, states, mask), write(ours, states, mask, beams=6)
    ended = [row for row in range(12) if few[row].ended == "end"]
    assert len(ended) >= 3 and any(few[row] != many[row] for row in ended)
    assert all(rank(many[row], row) >= rank(few[row], row) - 1e-5 for row in ended if many[row].ended == "end")


def well_formed(ids, numbers):
    try:
        return bool(parse(" ".join(WORDS.decode(ids)), numbers))
    except ValueError:
        return False


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("most", [1, 2, 9])
def test_with_a_grammar_all_is_well_formed(beams, most):
    numbers = [0, 1, 2, 1, 2, 2, 0, 1]
    ours, (states, mask) = sharp(most=most), texts(lengths=(5, 2, 7, 1, 4, 3, 6, 2))
    free = write(ours, states, mask, beams=beams)
    bound = write(ours, states, mask, beams=beams, grammar=Grammar.of(WORDS, numbers))
    assert not all(well_formed(one.ids, count) for one, count in zip(free, numbers))
    assert all(one.ended == "end" and well_formed(one.ids, count) for one, count in zip(bound, numbers))
    if most == 9:
        assert max(len(one.ids) for one in bound) > 1


@torch.no_grad()
def test_the_best_well_formed_one_is_found():
    ours, (states, mask) = sharp(most=3), texts()
    plain = range(3, len(WORDS))
    everything = [ids for count in (1, 3) for ids in itertools.product(plain, repeat=count) if well_formed(ids, 2)]
    assert len(everything) == 3 + 4 * 9
    for row in range(len(states)):
        one = states[row : row + 1], mask[row : row + 1]
        sums = log_probabilities(ours, *one, [(*ids, END) for ids in everything]).tolist()
        ranks = {ids: total / (len(ids) + 1) for ids, total in zip(everything, sums)}
        best = write(ours, *one, beams=50, grammar=Grammar.of(WORDS, [2]))[0]
        assert ranks[best.ids] >= max(ranks.values()) - 1e-5


@pytest.mark.parametrize("grammar", [None, Grammar.of(WORDS, [2] * 5)])
def test_a_row_that_is_not_finite_spoils_no_other(grammar):
    ours, (states, mask) = sharp(), texts()
    expected = write(ours, states, mask, beams=2, grammar=grammar)
    states[2, 0] = torch.nan
    found = write(ours, states, mask, beams=2, grammar=grammar)
    assert (found[2].ids, found[2].ended) == ((), "nan")
    assert [one for row, one in enumerate(found) if row != 2] == [one for row, one in enumerate(expected) if row != 2]


def test_smoothing_is_torchs():
    """What the loss calls smoothing: a share that all symbols get alike."""
    ours, (states, mask) = decoder(), texts()
    logits, labels = ours(states, mask, LABELS).logits.flatten(0, 1), LABELS.flatten()
    expected = functional.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=0.2)
    assert torch.equal(ours(states, mask, LABELS, smoothing=0.2).loss, expected)
