"""The one-way rule: a room imports from lower floors and from itself, never from above and never from its neighbour.

Every file's syntax tree is read, so imports inside functions and for type checkers count like all others.
"""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"errors"},
    {"sparsity", "models"},
    {"runs", "training"},
    {
        "families/finding",
        "families/generating",
        "families/metrics",
        "families/removed",
        "families/textfiles",
        "families/tuning",
    },
    {"families/encoder"},
    {"families/glue", "families/reasoning", "families/translation", "families/qa", "report"},
]
"""From the ground up. Each family is a room; below them lies what several of them need."""

TOP = {"__init__", "__main__"}
"""The public API and the command: they reach everything. Nothing within reaches them, except for the version."""

NOT_FOR_THE_REPORT = ("families",)
FAST = "training/fast"
MAY_USE_FAST = {"families/encoder"}
MAY_USE_ENCODER = {"families/glue", "families/reasoning"}
NO_TORCH = ("errors", "runs", "report", "families", "__init__", "__main__")
"""Rooms that load no torch: ``--help``, mistakes and the report answer before it is imported."""

HEAVY_HALVES = {
    "families.encoder.classifying",
    "families.encoder.layout",
    "families.encoder.tuning",
    "families.generating",
    "families.qa.about",
    "families.qa.answer",
    "families.qa.asking",
    "families.reasoning.chooser",
    "families.reasoning.choosing",
    "families.reasoning.decoder",
    "families.reasoning.objectives",
    "families.reasoning.solver",
    "families.reasoning.solving",
    "families.reasoning.writing",
    "families.removed",
    "families.translation.about",
    "families.translation.batches",
    "families.translation.inputs",
    "families.translation.scoring",
    "families.translation.translate",
    "families.translation.translating",
    "families.tuning",
}
"""The parts of a family that its run imports."""

HEAVY = {"torch", "transformers", "datasets", "evaluate", "accelerate", "sklearn", "sacrebleu"}


def files() -> list[Path]:
    return sorted((ROOT / "junkdna").rglob("*.py"))


def room_of(module: str) -> str:
    """The room of a dotted name below the package: "runs", "families/glue", "families/metrics", "__main__"."""
    parts = module.split(".")
    if parts[0] == "families" and len(parts) > 1:
        return "/".join(parts[:2])
    return parts[0] or "__init__"


def module_of(path: Path) -> str:
    """A file's dotted name below the package."""
    parts = path.relative_to(ROOT / "junkdna").with_suffix("").parts
    return ".".join(parts if parts[-1] != "__init__" or len(parts) == 1 else parts[:-1])


def modules() -> set[str]:
    """Every dotted name below the package, also those of folders."""
    found = {module_of(path) for path in files()}
    return found | {name.rpartition(".")[0] for name in found if "." in name}


def imports(path: Path, known: set[str]):
    """Yield (dotted name below the package, line) of everything of this package that a file imports, at any depth."""
    package = ["junkdna", *path.relative_to(ROOT / "junkdna").parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [word.value for word in node.args[:1] if isinstance(word, ast.Constant)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "junkdna":
                inside = name.partition(".")[2]
                if "." not in inside and inside not in known:
                    yield "" if inside in ("", "__version__") else "__init__", node.lineno
                    continue
                while inside not in known:  # the last word is a function or a class
                    inside = inside.rpartition(".")[0]
                yield inside, node.lineno


def floor_of(room: str) -> int:
    """The floor of a room; raises KeyError for a room that the table does not know."""
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise KeyError(f"{room} has no floor: give it one in FLOORS")


def wrong(source: str, target: str) -> str | None:
    """Why an import of one module by another is against the rule; None if it is not."""
    here, there = room_of(source), room_of(target)
    fast = FAST.replace("/", ".")
    if target.startswith(fast) and not (source.startswith(fast) or here in MAY_USE_FAST | TOP):
        return f"{FAST} may be deleted without changing a number; {source} must not need it"
    if here in TOP or there == here:
        return None
    if there in TOP:
        return None if not target else "the public API and the command are for callers from outside"
    if here == "report" and there.startswith(NOT_FOR_THE_REPORT):
        return "the report knows no family"
    if floor_of(there) >= floor_of(here):
        return f"{there} is not below {here}"
    if there == "families/encoder" and here not in MAY_USE_ENCODER:
        return f"{here} does not stand on {there}"
    return None


@pytest.fixture(scope="module")
def arrows():
    """(file, its module, imported module, line) of every import within the package."""
    known = modules()
    return [
        (path.relative_to(ROOT).as_posix(), module_of(path), target, line)
        for path in files()
        for target, line in imports(path, known)
    ]


def test_every_file_is_read():
    listed = subprocess.run(["find", "junkdna", "-name", "*.py"], cwd=ROOT, capture_output=True, text=True).stdout
    assert [path.relative_to(ROOT).as_posix() for path in files()] == sorted(listed.split(), key=Path)
    assert len(files()) >= 50


def test_imports_go_down_only(arrows):
    found = {
        (file, target): f"{file}:{line}: {why}"
        for file, source, target, line in arrows
        if (why := wrong(source, target))
    }
    assert not [text for _, text in sorted(found.items())]


def for_type_checkers(path: Path) -> set[int]:
    """The lines of a file that only type checkers read."""
    blocks = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.If)]
    checked = [node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING"]
    return {line for node in checked for line in range(node.lineno, node.body[-1].end_lineno + 1)}


def test_no_file_imports_itself_by_way_of_others(arrows):
    """Within a room too, and with the imports in functions; type checkers do not mind circles."""
    graph, unread = {}, {module_of(path): for_type_checkers(path) for path in files()}
    for _, source, target, line in arrows:
        if line not in unread[source]:
            graph.setdefault(source, set()).add(target)
    assert len(graph) > 100
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_room_has_been_looked_at(arrows):
    rooms = {room_of(module_of(path)) for path in files()} - TOP - {"families"}
    assert rooms <= set().union(*FLOORS)
    counted = Counter(room_of(source) for _, source, _, _ in arrows)
    without = {room for room in rooms if not counted[room]}
    of_their_own = {"errors", "families/generating", "families/metrics", "families/textfiles"}
    assert without <= of_their_own  # these stand on nothing of ours
    assert sum(counted.values()) >= 100


def test_the_rule_itself():
    assert wrong("runs.grid", "training.finetune") == "training is not below runs"
    assert wrong("sparsity.masks", "models.hub") == "models is not below sparsity"
    assert wrong("training.step", "runs.progress") == "runs is not below training"
    assert wrong("report.collect", "families.metrics") == "the report knows no family"
    assert wrong("families.glue.tasks", "families.qa.data") == "families/qa is not below families/glue"
    assert wrong("families.encoder.data", "families.glue.tasks") == "families/glue is not below families/encoder"
    assert wrong("families.qa.family", "families.encoder.data") == "families/qa does not stand on families/encoder"
    assert "may be deleted" in wrong("families.glue.family", "training.fast.packing")
    assert "may be deleted" in wrong("training.step", "training.fast.packing")
    assert "from outside" in wrong("runs.grid", "__main__") and "from outside" in wrong("training.step", "__init__")
    for source, target in (
        ("families.glue.family", "families.encoder.data"),
        ("families.encoder.data", "families.metrics"),
        ("families.encoder.data", "training.fast.packing"),
        ("report.collect", "runs.records"),
        ("runs.records", ""),
        ("training.fast.packing", "training.step"),
        ("training.fast.packing", "training.fast.rows"),
        ("runs.jobs.run", "runs.grid"),
        ("__init__", "sparsity.masks"),
    ):
        assert wrong(source, target) is None
    with pytest.raises(KeyError, match="attic has no floor"):
        wrong("attic.box", "errors")


def test_no_torch_at_the_top_of_the_light_rooms():
    """Their own import lines; a family's heavy half is imported when it runs."""
    light = [path for path in files() if module_of(path) not in HEAVY_HALVES]
    looked_at = [path for path in light if room_of(module_of(path)).split("/")[0] in NO_TORCH]
    assert len(looked_at) >= 25
    found = []
    for path in looked_at:
        for node in loaded_at_once(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{path.relative_to(ROOT)}:{node.lineno}: {n}" for n in names if n.split(".")[0] in HEAVY]
    assert not found


def loaded_at_once(tree: ast.Module):
    """Yield the imports that run when a module is loaded: not those in functions or for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (n for branch in node.orelse for n in loaded_at_once(ast.Module([branch], [])))
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from loaded_at_once(node)


def test_loading_the_light_rooms_loads_no_torch():
    """What the import lines lead to: all light modules in one process."""
    light = {module_of(path) for path in files()} - {"__init__", "__main__", "report.__main__"}
    light = {name for name in light if room_of(name).split("/")[0] in NO_TORCH}
    assert first_with_torch(sorted(light - HEAVY_HALVES)) is None
    assert first_with_torch(sorted(HEAVY_HALVES)) is not None


def first_with_torch(names: list[str]) -> str | None:
    """The first of the modules whose import brings torch, in a fresh process."""
    code = f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(f'junkdna.{{name}}')\n"
    code += "    if 'torch' in sys.modules:\n        sys.exit(print(name))\nprint()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() or None
