"""The counts are facts of the architectures: 85,526,016 and 303,040,512 weights (roberta-base and -large, 2 labels)."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

import junkdna as jd
from junkdna.errors import UserError
from junkdna.sparsity.scope import find_scope
from junkdna.training.finetune import no_decay_names

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50,
         "pad_token_id": 0, "num_labels": 2}  # fmt: skip


def build(model_type, **settings):
    config = AutoConfig.for_model(model_type, **settings)
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize(
    ("sizes", "weights", "matrices", "embeddings"),
    [
        ({"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
         85_526_016, 74, 50265 * 768 + 514 * 768 + 768),
        ({"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
         303_040_512, 146, 50265 * 1024 + 514 * 1024 + 1024),
    ],
    ids=["roberta-base", "roberta-large"],
)  # fmt: skip
def test_the_counts_of_roberta(sizes, weights, matrices, embeddings):
    settings = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "num_labels": 2, **sizes}
    with torch.device("meta"):
        model = build("roberta", **settings)
    scope = find_scope(model, embeddings=False)
    assert (scope.size, len(scope.matrices)) == (weights, matrices)
    assert list(scope.matrices)[-2:] == ["classifier.dense.weight", "classifier.out_proj.weight"]
    everything = find_scope(model)
    assert (everything.size, len(everything.matrices)) == (weights + embeddings, matrices + 3)


ENCODERS = [
    "roberta",
    "bert",
    "distilbert",
    "deberta",
    "deberta-v2",
    "modernbert",
    "electra",
    "albert",
    "xlm-roberta",
    "mpnet",
]


@pytest.mark.parametrize("model_type", ENCODERS)
def test_every_encoder_gives_linear_layers_and_no_embeddings(model_type):
    renamed = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
    settings = {renamed.get(k, k) if model_type == "distilbert" else k: v for k, v in SMALL.items()}
    model = build(model_type, **settings)
    scope = find_scope(model, embeddings=False)
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    assert {id(parameter) for parameter in scope.matrices.values()} == linear - tables
    assert len(linear) >= 6
    assert set(scope.matrices) | set(scope.left_out) == {name for name, _ in model.named_parameters()}
    assert {id(p) for n, p in model.named_parameters() if scope.left_out.get(n) == "embedding"} == tables
    decayed = {name for name, _ in model.named_parameters()} - no_decay_names(model)
    assert set(scope.matrices) <= decayed and not any(n.endswith("bias") or "LayerNorm" in n for n in decayed)


class Tied(nn.Module):
    """Its token table is owned under a name without 'embed', and tied to an output layer that comes first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 10, bias=True)
        self.shared = nn.Embedding(10, 4)
        self.shared.weight = self.head.weight
        self.body = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.embedder = nn.Linear(4, 6)


def test_a_tied_embedding_counts_once_and_is_an_embedding_whatever_its_name():
    model = Tied()
    assert list(find_scope(model).matrices) == ["head.weight", "body.weight", "embedder.weight"]
    scope = find_scope(model, embeddings=False)
    assert list(scope.matrices) == ["body.weight", "embedder.weight"]  # a name is no reason
    assert scope.left_out["head.weight"] == "embedding"
    assert scope.left_out["norm.weight"] == "normalisation" and scope.left_out["body.bias"] == "bias"


def test_exclusion_by_regular_expression():
    scope = find_scope(Tied(), exclude=["^body", "shared"])
    assert list(scope.matrices) == ["embedder.weight"]
    assert (
        scope.left_out["body.weight"] == "excluded by ^body" and scope.left_out["head.weight"] == "excluded by shared"
    )
    with pytest.raises(UserError, match="nothing_like_it: matches no matrix"):
        find_scope(Tied(), exclude=["nothing_like_it"])
    with pytest.raises(UserError, match="no matrix is left"):
        find_scope(Tied(), exclude=["."])


def test_what_is_not_trained_is_left_out():
    model = Tied()
    model.body.weight.requires_grad = False
    assert find_scope(model).left_out["body.weight"] == "not trained"


def test_within_and_exclude_together():
    model = build("roberta", **SMALL)
    scope = find_scope(model, within=r"encoder\.layer\.0", exclude="query")
    assert len(scope.matrices) == 5 and all("layer.0" in name and "query" not in name for name in scope.matrices)
    assert scope.left_out["classifier.dense.weight"] == r"not within encoder\.layer\.0"
    assert scope.left_out["roberta.encoder.layer.0.attention.self.query.weight"] == "excluded by query"
    assert set(scope.matrices) | set(scope.left_out) == {name for name, _ in model.named_parameters()}
    with pytest.raises(UserError) as error:
        find_scope(model, within="decoder", exclude=["nothing_like_it"])
    assert str(error.value) == (
        "exclude nothing_like_it: matches no matrix of the model; within decoder: matches no matrix of the model"
    )
    for setting in ("within", "exclude"):
        with pytest.raises(UserError, match=rf"^{setting} \(: is not a valid regular expression"):
            find_scope(model, **{setting: "("})


def test_gpt2_stores_its_matrices_transposed():
    config = AutoConfig.for_model("gpt2", n_embd=24, n_layer=2, n_head=2, vocab_size=50, n_positions=20)
    model = AutoModelForCausalLM.from_config(config)
    scope = find_scope(model)
    assert {name.rpartition("h.")[2][2:] for name in scope.transposed} == {
        "attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"
    }  # fmt: skip
    assert len(scope.transposed) == 8 and set(scope.matrices) - scope.transposed == {
        "transformer.wte.weight",
        "transformer.wpe.weight",
    }
    masks = jd.make_masks(scope, jd.NM(2, 8))
    rows = jd.make_masks(scope, jd.PerRow(0.5))
    for name, weight in scope.matrices.items():
        turn = (lambda t: t.T) if name in scope.transposed else (lambda t: t)
        assert (turn(masks[name]).reshape(-1, 8).sum(1) == 2).all()  # along the inputs
        assert (turn(rows[name]).sum(1) == turn(weight).shape[1] // 2).all()
        best = turn(weight).abs().reshape(-1, 8).topk(2).indices
        assert turn(masks[name]).reshape(-1, 8).gather(1, best).all()
    counted = jd.census(scope, rows, jd.PerRow(0.5))
    assert counted.removed == counted.asked == scope.size // 2


class BothWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), Conv1D(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight


def test_a_matrix_that_is_stored_both_ways_is_refused_unless_excluded():
    with pytest.raises(UserError, match=r"a\.weight is shared by a Conv1D and a module"):
        find_scope(BothWays())
    assert list(find_scope(BothWays(), exclude=["^b"]).matrices) == ["c.weight"]
