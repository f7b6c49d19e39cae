"""Small data for whole runs: the tasks' folders in the words of the tiny model, and files of one's own."""

import csv
import json
import random
from pathlib import Path

from conftest import BAD, GOOD, SUBJECTS, VERBS

OPERATORS = ("+", "-", "*", "/")


def write_lines(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def question(number: int, draw: random.Random) -> dict:
    """A row of CommonsenseQA: one of five phrases is a good one."""
    label = draw.randrange(5)
    texts = [draw.choice(GOOD if place == label else BAD) for place in range(5)]
    options = [{"label": "ABCDE"[place], "text": text} for place, text in enumerate(texts)]
    stem = " ".join([*draw.sample(SUBJECTS, draw.randint(1, 3)), draw.choice(VERBS)])
    return {"id": f"q{number}", "answerKey": "ABCDE"[label], "question": {"stem": stem, "choices": options}}


def blank(draw: random.Random) -> dict:
    label = draw.randrange(2)
    options = {f"option{place + 1}": draw.choice(GOOD if place == label else BAD) for place in range(2)}
    return {"sentence": f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} _ .", **options, "answer": str(label + 1)}


def problem(draw: random.Random, longer: bool = True) -> dict:
    """A row of MAWPS or SVAMP; the verb says which operator it is."""
    verb = draw.randrange(4)
    numbers = [float(draw.randint(2, 20)), float(draw.randint(2, 20))]
    operator = OPERATORS[verb]
    text = f"{draw.choice(SUBJECTS)} {VERBS[verb]} number0 and number1"
    if longer and draw.random() < 0.3:
        text += " " + draw.choice(GOOD)
    value = {"+": numbers[0] + numbers[1], "-": numbers[0] - numbers[1], "*": numbers[0] * numbers[1]}
    answer, equation = value.get(operator, numbers[0] / numbers[1]), f"{operator} number0 number1"
    if longer and draw.random() < 0.4:
        text, equation, answer = f"{text} my friend", f"+ number0 {equation}", numbers[0] + answer
    return {"Question": text, "Numbers": " ".join(map(str, numbers)), "Equation": equation, "Answer": str(answer)}


def fill(root: Path, train: int = 24, other: int = 12) -> Path:
    """All four tasks in the layout of their original files."""
    draw = random.Random(7)
    for name, count in (("train", train), ("dev", other)):
        rows = [question(number, draw) for number in range(count)]
        write_lines(root / f"commonsenseqa/{name}_rand_split.jsonl", rows)
    for size in ("xs", "s", "m"):
        write_lines(root / f"winogrande/train_{size}.jsonl", [blank(draw) for _ in range(train)])
    write_lines(root / "winogrande/dev.jsonl", [blank(draw) for _ in range(other)])
    folds = [[problem(draw) for _ in range(other)] for _ in range(5)]
    for number, rows in enumerate(folds):
        write_csv(root / f"mawps/cv_mawps/fold{number}/dev.csv", rows)
    others = [row for rows in folds[1:] for row in rows]
    write_csv(root / "mawps/cv_mawps/fold0/train.csv", [*others, problem(draw)])
    for name, count in (("train", train), ("dev", other)):
        write_csv(root / f"svamp/mawps-asdiv-a_svamp/{name}.csv", [problem(draw) for _ in range(count)])
    return root
