"""The embedded demo is what its recipe says: data, splits, a task beyond single words, and the model."""

import csv
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "GLUE_tasks" / "demo"
FILES = [(task, split) for task in ("easy", "hard") for split in ("train", "validation")]


def load(name):
    """A demo script as a module, from its file: demo/ is a folder of scripts, not a package."""
    spec = importlib.util.spec_from_file_location(f"demo_{name}", DEMO / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


language = load("language")


def shipped(task, split):
    """[(sentence, label)] as a user's program reads them."""
    with open(DEMO / task / f"{split}.csv", encoding="utf-8", newline="") as file:
        return [(row["sentence1"], int(row["label"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def rows():
    return {key: shipped(*key) for key in FILES}


@pytest.fixture(scope="module")
def tasks():
    return language.make_tasks()


@pytest.mark.parametrize(("task", "split"), FILES)
def test_generator_remakes_the_shipped_file(tasks, task, split):
    assert (DEMO / task / f"{split}.csv").read_bytes() == language.as_csv(tasks[task][split]).encode()


def test_another_seed_makes_other_text(tasks):
    other = language.make_tasks(seed=language.TASK_SEED + 1)
    for task, split in FILES:
        one, two = ({text for text, _ in made[task][split]} for made in (tasks, other))
        assert len(one & two) < 0.05 * len(one)


@pytest.mark.parametrize(("task", "split"), FILES)
def test_size_and_balance(rows, task, split):
    labels = Counter(label for _, label in rows[task, split])
    half = {"train": 800, "validation": 300}[split]
    assert labels == {0: half, 1: half}


def test_sentences_are_6_to_20_words(rows):
    lengths = {len(text.split()) for part in rows.values() for text, _ in part}
    assert min(lengths) >= 6 and max(lengths) <= 20


def test_no_sentence_occurs_twice_in_any_split_or_task(rows):
    sentences = [text for part in rows.values() for text, _ in part]
    assert len(sentences) == 4400
    assert len(set(sentences)) == len(sentences)


def filled(text):
    """The sentence with each of the four particles in the place of the mask; itself if it has none."""
    return (
        [text.replace(language.MASK, particle) for particle in language.PARTICLES.values()]
        if language.MASK in text
        else [text]
    )


def test_pretraining_text_avoids_the_tasks(rows):
    """Every task sentence is of the reserved kind in its grammatical form; the pre-training text has none of it."""
    sentences = [text for part in rows.values() for text, _ in part]
    assert sum(language.MASK in text for text in sentences) == 2200
    assert all(any(map(language.reserved, filled(text))) for text in sentences)
    text = list(language.corpus(5000))
    assert len(text) == 5000 and not any(map(language.reserved, text))
    assert set(text).isdisjoint(sentences)


def test_hard_labels_follow_the_grammar():
    """The two rows of a pair hold the same words, and the label is the gender that the masked particle showed."""
    lexicon, rng = language.make_lexicon(), language.Random(0)
    genders = {particle: gender for (gender, _), particle in language.PARTICLES.items()}
    for _ in range(40):
        (whole, (masked, label)), (other_whole, (other_masked, other_label)) = language.swapped_pair(lexicon, rng)
        assert sorted(masked.split()) == sorted(other_masked.split()) and masked != other_masked
        assert {label, other_label} == {0, 1}
        for complete, hidden, gender in ((whole, masked, label), (other_whole, other_masked, other_label)):
            ((was, shown),) = [(x, y) for x, y in zip(complete.split(), hidden.split(), strict=True) if x != y]
            assert shown == language.MASK and genders[was] == gender


def test_agreement_by_hand():
    item, es = language.Item, language.PARTICLES[1, 0]
    items = (
        item("determiner", "ta", controller=1),
        item("noun", "fem", gender=1),
        item("function", "en"),
        item("determiner", "mo", controller=4),
        item("noun", "rol", number=1),
        item("verb", "lig"),
        item("particle", controller=1),
    )
    sentence = language.Sentence(items, subject=1, target=6)
    assert language.render(sentence) == f"ta fem en mi rol lig {es}"
    assert language.render(sentence, masked=True) == "ta fem en mi rol lig <mask>"


def bag_of_words_accuracy(rows, task):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, labels = zip(*rows[task, "train"], strict=True)
    new_texts, new_labels = zip(*rows[task, "validation"], strict=True)
    counter = CountVectorizer(token_pattern=r"\S+")
    classifier = LogisticRegression(max_iter=1000).fit(counter.fit_transform(texts), labels)
    return classifier.score(counter.transform(new_texts), new_labels)


def test_words_alone_solve_the_easy_task(rows):
    assert bag_of_words_accuracy(rows, "easy") > 0.97


def test_words_alone_are_at_chance_on_the_hard_task(rows):
    assert abs(bag_of_words_accuracy(rows, "hard") - 0.5) < 0.03


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DEMO / "model")


def test_tokenizer_is_robertas(rows, tokenizer):
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2, 3, 4]
    assert tokenizer.pad_token_id == 1
    sentences = [text for part in rows.values() for text, _ in part]
    encoded = tokenizer(sentences)["input_ids"]
    assert all(ids[0] == 0 and ids[-1] == 2 and not {1, 3} & set(ids) for ids in encoded)
    assert all(ids.count(4) == text.count(language.MASK) <= 1 for ids, text in zip(encoded, sentences, strict=True))
    assert tokenizer.batch_decode(encoded[:50], skip_special_tokens=True) == sentences[:50]
    assert max(map(len, encoded)) <= 32  # the quickstart's sequence length


def test_model_folder_loads_and_takes_128_tokens():
    import torch
    from transformers import AutoModelForSequenceClassification

    load_model = AutoModelForSequenceClassification.from_pretrained
    model, report = load_model(DEMO / "model", output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"classifier"}
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (DEMO / "model" / "model.safetensors").stat().st_size < 4_000_000
    assert len(model.roberta.encoder.layer) == 4 and model.config.type_vocab_size == 1
    logits = model(torch.full((1, 128), 5)).logits
    assert logits.shape == (1, 2) and bool(torch.isfinite(logits).all())


def test_model_was_trained():
    """Words of one topic lie closer together than words of different topics, unlike random weights."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    table = AutoModel.from_pretrained(DEMO / "model").get_input_embeddings().weight.detach()
    verbs = [(topic, stem) for topic, stems in language.make_lexicon().verbs.items() for stem in stems]
    vectors = []
    for _, stem in verbs:
        ids = tokenizer(" " + stem, add_special_tokens=False)["input_ids"]
        vectors.append(table[ids].mean(0))
    unit = torch.nn.functional.normalize(torch.stack(vectors) - torch.stack(vectors).mean(0), dim=1)
    same = torch.tensor([[a[0] == b[0] and a != b for b in verbs] for a in verbs])
    different = torch.tensor([[a[0] != b[0] for b in verbs] for a in verbs])
    cosine = unit @ unit.T
    assert cosine[same].mean() > cosine[different].mean() + 0.2
