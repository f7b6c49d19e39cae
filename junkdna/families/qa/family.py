"""Questions as a family of experiments: what its flags say together, and what its grid is made of."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from decimal import Decimal

from junkdna.errors import Fault, Faults
from junkdna.families import finding
from junkdna.families.qa import questions
from junkdna.families.qa.cell import CORPORA, Command, QACell
from junkdna.families.qa.questions import Questions
from junkdna.models import causal_files, hub
from junkdna.runs import processes, pruning
from junkdna.runs.journal import Journal
from junkdna.runs.shared import Shared
from junkdna.sparsity.methods import CALIBRATED
from junkdna.sparsity.patterns import parse_nm

DEFAULT_SPARSITY = Decimal("0.5")
SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
WITHOUT_TEXTS = ("nq_open",)
"""Tasks whose data on the Hub holds no texts."""

EXAMPLES = 256
"""Rows of the Hub, beyond those that are asked, from which solved examples are drawn; more if more are asked for."""

UNUSED = "had no effect in the released script; leave it out"


class QA:
    """Ask a pruned language model questions, with and without a text (Setting 3 of the paper)."""

    entry = "QA_tasks.QA_prune_oneshot"
    description = (
        "Prune a causal language model once, layer by layer, ask it questions with and without a text that holds the "
        "answer, and record. Nothing is retrained. --task_name, --book, --context_characters, --shots, "
        "--prune_method, --sparsity, --nm_ratio and --seed take several values. The program runs every combination."
    )
    cell = QACell
    command = Command
    gone = {  # noqa: RUF012 -- read only, as all of the contract
        "--cache_dir": "is not needed; set HF_HOME to the folder where the Hub's files are to be kept",
        "--save": "is not needed; --output_dir says where everything is written, --save_model keeps the model",
        "--prompt": UNUSED,
        "--data_dir": f"{UNUSED}; --data_file reads questions of your own",
        "--ntrain": f"{UNUSED}; --shots says how many solved examples stand in front",
        "--sparse_init": "belongs to GLUE; --prune_method and --sparsity_pattern say what is removed",
        "--noembed": "is what is always done here: only linear layers inside the blocks are pruned; leave it out",
    }

    def __init__(self, run: Callable[[QACell, Shared, Journal], None]):
        """``run`` is the method, from data to results."""
        self._run = run

    def run(self, cell: QACell, shared: Shared, journal: Journal) -> None:
        """Find what comes from the Hub before the method imports the libraries."""
        finding.find(cell, shared, find_model, read)
        if {*CORPORA} & {cell.calibrated and cell.calibration, cell.perplexity}:
            hub.reach()
        self._run(cell, shared, journal)

    def check(self, given: dict, faults: Faults) -> None:
        _check_data(given, faults)
        _check_texts(given, faults)
        if given["include_context"] and given["book"] not in (["closed"], ["open"]):
            faults.append("--include_context: is the released spelling of --book open; --book names the books here")
        if given["use_variant"] and "wanda" not in (given["score"] or []):
            faults.append("--use_variant: is a variant of --prune_method wanda")
        if processes.world_size() > 1 or processes.under_accelerate():
            faults.append("torchrun and accelerate launch: start this command with plain python; --num_jobs spreads it")

    def patterns(self, given: dict, faults: Faults) -> list[dict]:
        if given["mask_file"]:
            if given["sparsity_type"]:
                faults.append(
                    f"--mask_file {given['mask_file']}: already says what is removed; leave --sparsity_type out"
                )
            return pruning.beside_dense(given, [pruning.from_file(given, faults)])
        return pruning.beside_dense(given, _patterns(given, faults))

    def variants(self, given: dict) -> Iterator[dict]:
        books = ["open"] if given["include_context"] else given["book"]
        lengths = given["context_characters"]
        for task, book, shots in itertools.product(given["task_name"] or [None], books, given["shots"]):
            for length in lengths if book == "open" else [None]:  # a closed book shows no text
                yield {"task_name": task, "book": book, "context_characters": length, "shots": shots}

    def preflight(self, cell: QACell, shared: Shared, faults: Faults) -> None:
        if cell.data_file:
            found = faults.collect(read, cell, shared)
            if found is not None:
                faults.collect(questions.choose, found, cell.max_eval_samples, cell.shots, cell.seed)
                _check_contexts(cell, found, faults)
        config = faults.collect(causal_files.check, cell.model_name_or_path, cell.gguf_file)
        if config:
            check_model(cell, config, faults)

    def check_done(self, cell: QACell, shared: Shared) -> None:
        """All that a run reads on this machine is among the files whose digests are compared for every family."""

    def work(self, cell: QACell, shared: Shared) -> int:
        return cell.max_eval_samples * (4 if cell.book == "open" else 1)

    def loads(self, cell: QACell) -> tuple:
        return cell.pruned


def find_model(cell: QACell, shared: Shared) -> None:
    """Ask the Hub once for a model, or for its GGUF file, that does not lie here; raises UserError."""
    if not causal_files.gguf_path(cell.model_name_or_path, cell.gguf_file):
        finding.find_model(cell, shared, cell.gguf_file)


def read(cell: QACell, shared: Shared) -> Questions:
    """Read a cell's questions, once for all cells that ask them. Raises UserError."""
    if cell.data_file:
        return shared.keep("questions", cell.data_file, lambda: questions.read_file(cell.data_file))
    most = cell.max_eval_samples + max(EXAMPLES, cell.shots)  # all rows of TriviaQA with their texts take a gigabyte
    return shared.keep("questions", (cell.task_name, most), lambda: questions.read_hub(cell.task_name, most))


# --- what flags say together -----------------------------------------------------------------------------------------


def _check_data(given: dict, faults: Faults) -> None:
    file, tasks, books = given["data_file"], given["task_name"] or [], given["book"]
    if not file and not tasks:
        faults.append("no questions: give --task_name (trivia_qa or nq_open) or --data_file")
    if file:
        if not file.lower().endswith(SUFFIXES):
            faults.append(f"--data_file {file}: must end in {', '.join(SUFFIXES)} (JSON lines)")
        if not os.path.isfile(file):
            faults.append(f"--data_file {file}: no such file")
        if len(tasks) > 1:
            faults.append(f"--task_name {' '.join(tasks)}: --data_file is one set of questions; give one name")
        return
    for task in tasks:
        if task in WITHOUT_TEXTS and ("open" in books or given["include_context"]):
            faults.append(
                f"--book open: --task_name {task} has no texts on the Hub; give --data_file with a context for each"
            )


def _check_texts(given: dict, faults: Faults) -> None:
    """Refuse texts for calibration and perplexity that are not there."""
    methods = given["score"] or []
    for flag, used in (("calibration", any(method in CALIBRATED for method in methods)), ("perplexity", True)):
        name = given[flag]
        if used and name and name not in CORPORA and not os.path.isfile(name):
            faults.append(f"--{flag} {name}: no such file; give a file, or one of {', '.join(CORPORA)}")
    for name in ("perplexity_window", "perplexity_windows"):
        if given[name] and not given["perplexity"]:
            faults.append(f"--{name} {given[name]}: has no effect without --perplexity")
    if given["perplexity"] == "c4":
        faults.append("--perplexity c4: its shard is for calibration; give wikitext2 or a file")


def _patterns(given: dict, faults: Faults) -> list[dict]:
    """Return the pattern's settings of every run: every method with every sparsity or ratio."""
    sparsities, ratios = _released(given, faults)
    pattern = given["sparsity_pattern"] or ("nm" if ratios else "unstructured")
    if given["use_variant"] and pattern == "nm":
        faults.append("--use_variant: is for unstructured sparsity, not for N:M; leave one of them out")
    if ratios and pattern != "nm":
        name = "sparsity_type" if given["sparsity_type"] else "nm_ratio"
        faults.append(f"--{name}: goes with --sparsity_pattern nm, not with {pattern}")
    if pattern == "dense":
        if any(sparsities or []) or given["score"]:
            faults.append("--sparsity_pattern dense: does not prune anything; leave --prune_method and --sparsity out")
        return [pruning.NOTHING]
    if pattern == "nm":
        sparsities = sparsities or ([] if ratios else [DEFAULT_SPARSITY])
        amounts = [{"nm_ratio": one} for one in pruning.ratios_meant(sparsities, ratios, faults)]
    else:
        amounts = [{"sparsity": one} for one in sparsities or [DEFAULT_SPARSITY]]
    kinds = (
        {"score": method, "sparsity_pattern": pattern, "use_variant": given["use_variant"] and method == "wanda"}
        for method in given["score"] or ["magnitude"]
    )
    return [pruning.NOTHING | kind | amount for kind, amount in itertools.product(kinds, amounts)]


def _released(given: dict, faults: Faults) -> tuple[list[Decimal] | None, list[str] | None]:
    """Return the sparsities and the ratios that are meant, --sparsity_type taken for what it stands for."""
    released, sparsities, ratios = given["sparsity_type"], given["sparsity"], given["nm_ratio"]
    if released is None:
        return sparsities, ratios
    if released == "unstructured":
        if ratios or given["sparsity_pattern"] not in (None, released):
            other = f"--nm_ratio {' '.join(ratios)}" if ratios else f"--sparsity_pattern {given['sparsity_pattern']}"
            faults.append(f"{other}: contradicts --sparsity_type {released}; give one of them")
        return sparsities, ratios
    if ratios and [released] != ratios:
        faults.append(f"--nm_ratio {' '.join(ratios)}: contradicts --sparsity_type; give one of them")
    if len(sparsities or []) > 1:
        faults.append("--sparsity: several of them beside --sparsity_type, which says what is removed; leave them out")
    elif sparsities and not all(sparsities):
        faults.append("--sparsity 0: removes nothing, --sparsity_type does; give --sparsity_pattern dense")
    return None, [released]  # the released script needs a sparsity beside n:m, which it does not use


# --- what files show -------------------------------------------------------------------------------------------------


def _check_contexts(cell: QACell, found: Questions, faults: Faults) -> None:
    if cell.book != "open" or found.has_contexts:
        return
    bare = found.without_context
    reason = f"{len(bare):,} of {len(found):,} rows of {cell.data_file} have no text, the first with id {bare[0]!r}"
    faults.append(Fault("book", "open", f"{reason}; give each a context, or ask --book closed"))


def check_model(cell: QACell, config: dict, faults: Faults) -> None:
    """Refuse what does not fit a model's configuration: before anything is loaded if that lies in a local folder, once
    it is loaded if it comes from the Hub or out of a GGUF file.
    """
    _check_widths(cell, config, faults)
    _check_lengths(cell, config, faults)


def _check_widths(cell: QACell, config: dict, faults: Faults) -> None:
    """Refuse an N:M ratio that does not divide the inputs of the model's linear layers."""
    if not cell.nm_ratio or cell.prune_exclude:  # what is left out may be what does not fit
        return
    pattern = parse_nm(cell.nm_ratio)
    for key, width in causal_files.widths(config):
        if width % pattern.of:
            reason = f"{pattern.of} does not divide the model's {key} {width}; give another M"
            faults.append(Fault("nm", cell.nm_ratio, reason))
            return


def _check_lengths(cell: QACell, config: dict, faults: Faults) -> None:
    """Refuse windows beyond the model's positions."""
    limit = causal_files.longest(config)
    for name, wanted, used in (
        ("seqlen", cell.seqlen, cell.calibrated),
        ("perplexity_window", cell.perplexity_window, bool(cell.perplexity)),
        ("max_new_tokens", cell.max_new_tokens, True),
    ):
        if limit and wanted and used and wanted > limit:
            faults.append(Fault(name, wanted, f"the model has positions for at most {limit} tokens"))
