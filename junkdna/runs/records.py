"""What a run leaves in its folder, and how the folder is claimed.

=====================  ================================================================================================
``run.json``           written when the run starts (``status`` "running") and again at its end ("done"); see RUN_SCHEMA
``history.jsonl``      one line per epoch, written as it happens; see HISTORY_SCHEMA
``mask.safetensors``   the mask, one bit per weight; ``junkdna.load_masks`` reads it (no mask: no file)
``predictions.jsonl``  what was answered, translated or chosen, one line each; see PREDICTIONS_SCHEMA and those after it
``all_results.json``   the final results, written last: a run that has it is finished; see RESULTS_SCHEMA
``error.json``         why the last attempt failed; gone when the next begins; see ERROR_SCHEMA
=====================  ================================================================================================

``.previous/`` holds a finished run that ``--overwrite_output_dir`` is replacing, until its successor is finished. With
``--save_model`` also what ``from_pretrained`` reads. Every file is written under a temporary name and then renamed.
``schema`` reads the records back, those of earlier versions too. ``run.json`` and ``error.json`` carry a seal;
``run.json`` holds the digests of the mask and the results, so that neither can be changed without a word.
"""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from junkdna.errors import Fault, UserError
from junkdna.runs import disk, schema, seals
from junkdna.runs.cell import Cell
from junkdna.runs.disk import write_bytes, write_json
from junkdna.runs.schema import ERROR, RUN
from junkdna.runs.settings import defaults
from junkdna.runs.speech import in_one_line

HISTORY, MASK, RESULTS = "history.jsonl", "mask.safetensors", "all_results.json"
PREDICTIONS = "predictions.jsonl"
PREVIOUS = ".previous"

RESULTS_SCHEMA = {
    "eval_<metric>": "the metric on the validation split after the last epoch, or over the questions asked; "
    "a fraction, not a percentage; BLEU and chrF++ (eval_bleu, eval_chrf) are 0 to 100",
    "eval_<metric>_<direction>": "of translations, the same of one direction (eval_bleu_en-de); eval_<metric> is their "
    "mean",
    "eval_loss, eval_loss_<pair>": "of a fine-tuned translation model, the mean loss over the target tokens of the "
    "validation text",
    "eval_mm_<metric>": "the same on MNLI's mismatched validation split",
    "eval_samples": "validation rows that were counted, questions asked, or sentences translated",
    "train_loss": "mean loss over the training examples of the last epoch; of translations over their target tokens",
    "train_samples": "training rows used",
    "epoch": "number of the last epoch",
    "step": "optimiser steps taken",
    "sparsity": "fraction of the weights in scope that the mask removes",
    "zero_fraction": "fraction of the weights in scope that are exactly 0 in the evaluated model, counted",
}
HISTORY_SCHEMA = {
    "epoch, step": "as above, at this epoch's end",
    "train_loss, eval_*": "as above, of this epoch",
    "learning_rate": "of the epoch's last step",
    "train_seconds, eval_seconds": "wall time",
    "tokens": "tokens trained on in this epoch, padding not counted",
}
RUN_SCHEMA = {
    "schema": "version of this layout, 2; schema.upgrade reads version 1",
    "status": "'running', then 'done'",
    "started, ended": "UTC, ISO 8601",
    "command": "the arguments as typed",
    "family": "which experiment: glue, qa, translation, reasoning",
    "axes": "what the run is of, in words, the panel of a figure first: task, data (percentage of the training set); "
    "of questions task, book, context (characters), shots; of translations shots (zero-shot, few-shot, or few-shot N: "
    "trained on N sentence pairs), pair; of reasoning task, size (WinoGrande's training set), choices (how many were "
    "kept)",
    "treatment": "the paper's name of what is done with the removed weights",
    "roles": "of every setting what it means for a result; see junkdna.runs.settings",
    "metrics": "of every metric its name, key in the results, which way is better, chance (null: unknown), and which "
    "one is "
    "the main one",
    "settings": "the resolved configuration: everything that may change the result",
    "options": "the settings that change no result",
    "code": "version, git commit of the program's folder, and whether files were changed since",
    "versions": "of Python and the libraries",
    "hardware": "device, its name, processes, threads, float32 matmul precision",
    "model": "name, revision (the commit, from the Hub), weight_hash (SHA-256 of what was loaded), drawn (fresh "
    "parameters), parameters, notes (what was found odd about it and how it was settled, a line each)",
    "data": "source; per split: rows available and used, SHA-256 of the rows used, examples at the maximum length, "
    "rows skipped, share of the most frequent label; columns read (texts, label); kind (classification or "
    "regression); label names (none: a regression); metrics, the main one first; of questions also cut (texts that "
    "were shortened), lost (of these, those that lost every answer), longest_prompt (tokens), examples (ids); of "
    "multiple choice also num_choices, doubled (questions of which a wrong choice reads like the right one); of word "
    "problems also noisy (problems whose equation does not give their answer), recurring (those of validation whose "
    "text is in training: exact, with the same numbers), unseen (all others), vocabulary, unwritable (problems whose "
    "equation has a symbol that no training equation has), usual (the most frequent training equation)",
    "plan": "examples per step, steps in all and per epoch, warm-up steps, batches (packed, or padded or of equal "
    "length and why), probe (odd rows looked at, largest difference between their outputs in such batches and alone), "
    "taken (how, since the last checkpoint: operation by operation, or as CUDA graphs, and why no more of them)",
    "pruning": "score and pattern in words, scope (weights and matrices), asked and removed and kept counts, sparsity, "
    "threshold (largest magnitude removed), mask_hash, zeros_before (weights that were 0 before, and how many of these "
    "are among the removed), head and embeddings (weights and removed), matrices (the same for each), left_out "
    "(name: reason)",
    "timings": "seconds: data, load, prune, train, evaluate, total; answer, perplexity, walk_calibrate, walk_prune (of "
    "the pruned model that cells share)",
    "identity": "SHA-256 of what enters the numbers: settings, training_data (texts and labels), training_rows and "
    "validation_rows (token ids and labels), model_weights, model_config (as resolved), tokenizer, mask (null: dense); "
    "of questions: questions, prompts, calibration and windows (of perplexity; token ids) in the place of the rows; of "
    "translations also test_text and test_rows",
    "read": "SHA-256 of the files of a local model, and of those that flags name: --mask_file, --data_file, ...",
    "files": "SHA-256 of mask.safetensors, predictions.jsonl and all_results.json; empty while the run goes on",
    "unwritten": "what could not be written at the end, such as the model, and why",
    "seal": "SHA-256 of all the rest, as JSON with sorted keys and without spaces",
    "resumed": "checkpoints from which the run went on: step, when, and code, versions and hardware up to there",
    "best": "epoch with the best main metric, and its metrics; the last epoch is the one that counts",
    "collapsed": "of a fine-tuned encoder whether the main metric is at most two points above what one answer to all "
    "examples reaches",
}
ASKED_SCHEMA = {
    "calibration": "source and SHA-256 of the text, samples and their SHA-256, tokens of each and in all, whether they "
    "were taken from long documents or from one stream, tokens that were available",
    "walk": "what the walk over the blocks found, by matrix: dead_columns (inputs that were always 0), damping (how "
    "often a factorisation needed more of it), ...",
    "answers": "nan (ended because the model put out no numbers), cut (at the longest answer), tokens in all",
    "perplexity": "source and SHA-256 of the text, windows, tokens of each, tokens predicted, perplexity, finite",
}
"""What ``run.json`` also holds where a model was pruned layer by layer and asked questions. There is no training there:
no plan, no best epoch. The results then hold eval_<metric>, eval_samples, sparsity, zero_fraction and perplexity (null
if it is not finite).
"""

TRANSLATED_SCHEMA = {
    "scores": "of each direction: every measure; floor (what copying the source gets); signatures of sacreBLEU; "
    "tokenizer, tokenizer_reason (what BLEU takes for words, and why); references_tokenised (whether they look cut "
    "into words); ended (how many translations ended how); tokens",
}
"""What ``run.json`` also holds of a run that translates; of a zero-shot run there is no plan, of none a best epoch.
Under ``model`` also kind and languages (how the model is told each direction). Under ``data`` test, and by language
pair train and validation: source, rows, empty (without text on a side), used, sha256, dropped (with a side longer than
``longest`` tokens), cut (sources longer than the model's positions).
"""

PREDICTIONS_SCHEMA = {
    "id": "of the question: the data's own, or its row",
    "prompt_sha256": "of the prompt as the model was given it",
    "raw": "what the model wrote, special tokens left out",
    "answer": "the first line of it, normalised as it is scored",
    "ended": "why it ended: line, eos, length, or nan (the model put out no numbers)",
    "scores": "of the answer, by the metrics' names",
}
CHOICES_SCHEMA = {
    "id": "of the question: the data's own, or its row",
    "choice, label": "the index of what was chosen, and of the right choice",
    "logits": "what the model gave every choice",
    "scores": "whether it is right, by the metric's name",
}
EQUATIONS_SCHEMA = {
    "id": "of the problem: the data's own, or its file and row",
    "equation": "what the model wrote, in prefix form",
    "value": "what it gives with the problem's numbers; null: malformed, or a division by zero",
    "answer": "what it should give",
    "ended": "why it ended: end, or length (cut at the longest)",
    "scores": "whether its value is the answer, and whether it is the data's own equation, by the metrics' names",
}
TRANSLATIONS_SCHEMA = {
    "id": "direction and number of the sentence, from 0: en-de/17",
    "direction": "such as en-de",
    "source_sha256": "of the sentence",
    "output": "its translation, special tokens left out",
    "ended": "why it ended: eos, length, or nan (the model put out no numbers)",
    "tokens": "how many the model wrote, with the one that ended it",
    "statistics": "what the sentence counts in the scores of the whole: junkdna/report/corpus_scores.py makes BLEU and "
    "chrF++ of sums of these",
    "scores": "what the sentence adds to the shares: in_script, empty, at_cap",
}
"""A line of ``predictions.jsonl`` of a run that translates."""

ERROR_SCHEMA = {
    "schema": "version of this layout, 2",
    "family, axes, treatment, roles, settings, command": "as in run.json",
    "error": "what went wrong, one line",
    "traceback": "where in the program; null for a mistake of the user's",
    "failed_at": "UTC, ISO 8601",
    "seal": "as in run.json",
}


# --- writing ---------------------------------------------------------------------------------------------------------


def write_record(path: Path, content: dict) -> None:
    """Write a record with its seal, whole or not at all. Raises DiskError."""
    write_json(path, seals.sealed(content))


def write_error(cell: Cell, argv: tuple[str, ...], error: Exception) -> None:
    """Leave a failed cell's error in its folder, if that can be written to and holds no finished and no other run."""
    content = {
        "schema": schema.SCHEMA,
        **cell.identity(),
        "command": list(argv),
        "error": in_one_line(error),
        "traceback": None if isinstance(error, UserError) else "".join(traceback.format_exception(error)),
        "failed_at": datetime.now(timezone.utc).isoformat(),
    }
    folder = Path(cell.output_dir)
    try:
        stored = schema.read_run(folder) or {}
        if finished(folder) is None and not (stored and difference(stored, cell)):
            folder.mkdir(parents=True, exist_ok=True)
            write_record(folder / ERROR, content)
    except (OSError, UserError):  # what cannot be read is left alone
        return


def write_model(folder: Path, save: Callable[[Path], None]) -> None:
    """Have ``save`` write a model's files into a folder of its own, and move them beside the records, each whole."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model.") as temporary:
        save(Path(temporary))
        for file in sorted(Path(temporary).iterdir()):
            os.chmod(file, 0o666 & ~disk.umask())
            os.replace(file, folder / file.name)


# --- reading and claiming --------------------------------------------------------------------------------------------


def glance(path: Path) -> dict | None:
    """Return a JSON file's object, or None whatever hinders it; for what is only worth a try."""
    try:
        return schema.load(path)
    except UserError:
        return None


def finished(folder: str | Path, beside: tuple[str, ...] = (MASK, PREDICTIONS)) -> dict | None:
    """Return the results of a finished run, or None.

    Raises DiskError if the disk does not give them, and Damaged if they, or the files ``beside`` them, are not what was
    written: a run that was finished is never taken for one that was not.
    """
    folder = Path(folder)
    run = schema.load(folder / RUN)
    content = disk.read_bytes(folder / RESULTS) if run and run.get("status") == "done" else None
    if content is None:
        return None
    written = run.get("files") or {}
    if RESULTS in written and seals.digest(content) != written[RESULTS]:
        raise _not_as_written(folder / RESULTS)
    for name in beside:
        if name in written and disk.digest_of(folder / name) not in (None, written[name]):
            raise _not_as_written(folder / name)
    try:
        results = json.loads(content)
    except (ValueError, RecursionError):
        results = None
    if not isinstance(results, dict):
        raise seals.Damaged(
            f"{folder / RESULTS}: is damaged, holds no JSON object; --overwrite_output_dir runs it again"
        )
    return results


def _not_as_written(path: Path) -> seals.Damaged:
    said = f"is damaged or was changed (its digest is not the one in {RUN})"
    return seals.Damaged(f"{path}: {said}; --overwrite_output_dir runs it again")


def is_whole(folder: str | Path) -> bool:
    """Whether a folder holds a finished run, with nothing wrong about it."""
    try:
        return finished(folder) is not None
    except UserError:
        return False


def check_mask(path: str | None, mask_hash: str | None) -> None:
    """Refuse a mask that is not the one of the run beside it; ``mask_hash`` is that of the mask as it was read."""
    run = glance(Path(path).parent / RUN) if path and Path(path).name == MASK else None
    pruning = (run or {}).get("pruning")
    stored = pruning.get("mask_hash") if isinstance(pruning, dict) and run.get("status") == "done" else None
    if stored is not None and stored != mask_hash:
        raise UserError(Fault("mask", path, f"is damaged or was changed: the {RUN} beside it has another mask_hash"))


def check_folder(cell: Cell, overwrite: bool) -> None:
    """Refuse a folder that cannot be written to or that holds something else, and say what differs."""
    folder = Path(cell.output_dir)
    where = f"--output_dir {cell.output_dir}"
    try:
        if overwrite or finished(folder) is None:  # a finished run may lie where nothing can be written
            _check_writable(folder, where)
    except OSError as error:  # a name that is too long, say
        raise UserError(f"{where}: cannot be a folder: {error.strerror}") from None
    if os.path.isdir(cell.model_name_or_path) and folder.resolve() == Path(cell.model_name_or_path).resolve():
        raise UserError(f"{where}: is the folder of --model_name_or_path, which a run never writes to; choose another")
    if cell.mask_file and (folder / MASK).exists() and os.path.samefile(cell.mask_file, folder / MASK):
        raise UserError(f"{where}: holds the mask of --mask_file, which the run would replace; choose another folder")
    if overwrite or not folder.is_dir():
        return
    stored = schema.read_run(folder)
    if stored is None or not isinstance(stored.get("settings"), dict):
        foreign = [name for name in (RUN, RESULTS, HISTORY, MASK, "config.json") if os.path.lexists(folder / name)]
        if foreign:
            raise UserError(
                f"{where}: holds {foreign[0]} but no readable {RUN}, so it is not a run of this program; choose "
                "another folder, or --overwrite_output_dir"
            )
        return
    differences = difference(stored, cell)
    if differences:
        raise UserError(
            f"{where}: holds a different run ({'; '.join(differences)}); choose another folder, or "
            "--overwrite_output_dir"
        )


def _check_writable(folder: Path, where: str) -> None:
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UserError(f"{where}: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{where}: {nearest} cannot be written to")


def difference(stored: dict, cell: Cell) -> list[str]:
    """Describe the settings in which a stored record and a wanted cell differ, as 'name: stored, now wanted'.

    A setting that the record does not know had its default: the flag did not exist yet. One that means nothing for the
    run may be anything.
    """
    if stored.get("family") != cell.family:
        return [f"experiment: {stored.get('family')}, now {cell.family}"]
    before, now = defaults(type(cell)) | stored["settings"], cell.settings()
    compared = [name for name in now if name not in cell.unused]
    return [f"{name}: {before[name]}, now {now[name]}" for name in compared if before[name] != now[name]]


def open_folder(cell: Cell, run: dict) -> Path:
    """Make the folder ready for a new run and return it: set aside what an earlier run left, write ``run.json``.

    The earlier run's files stay in ``.previous/`` until this one is finished, in case it never is.
    """
    folder = Path(cell.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = glance(folder / RUN)
        if earlier is not None and isinstance(earlier.get("settings"), dict):
            _set_aside(folder, keep=is_whole(folder))
        else:  # what lies there is not known to be a run's: only what would be mixed with this one goes
            for name in (RESULTS, HISTORY, MASK, PREDICTIONS):
                disk.remove(folder / name)
        (folder / ERROR).unlink(missing_ok=True)
        write_record(folder / RUN, run)
    except OSError as error:
        raise disk.DiskError(f"--output_dir {cell.output_dir}", "cannot be written to", error) from None
    return folder


def _products(folder: Path) -> list[str]:
    """What a run writes beside its records and its results."""
    names = [HISTORY, MASK, PREDICTIONS, "model.safetensors", "model.safetensors.index.json"]
    return names + [path.name for path in folder.glob("model-*-of-*.safetensors")]


def _delete(folder: Path) -> None:
    for name in (RESULTS, *_products(folder)):
        disk.remove(folder / name)


def _set_aside(folder: Path, keep: bool) -> None:
    """Move a finished run's files to ``.previous/``; delete those of an unfinished one.

    ``run.json`` stays for its successor to replace, so that the folder is a run's at every moment. The results go
    first: from then on the folder does not count as finished. A move that is cut off is undone by ``restore``.
    """
    if not keep:
        return _delete(folder)
    previous = folder / PREVIOUS
    drop_previous(folder)
    previous.mkdir()
    write_bytes(previous / RUN, (folder / RUN).read_bytes())
    for name in (RESULTS, *_products(folder)):
        if os.path.lexists(folder / name):
            os.replace(folder / name, previous / name)


def restore(folder: Path) -> None:
    """Bring back a finished run whose files were being set aside when the process was killed."""
    previous = folder / PREVIOUS
    run = glance(previous / RUN)
    cut_off = run is not None and run == glance(folder / RUN) and (previous / RESULTS).is_file()
    if not cut_off or os.path.lexists(folder / RESULTS):
        return
    others = [path for path in previous.iterdir() if path.name not in (RUN, RESULTS) and not path.name.startswith(".")]
    for path in [*others, previous / RESULTS]:
        os.replace(path, folder / path.name)
    drop_previous(folder)


def drop_previous(folder: Path) -> None:
    """Delete what was set aside."""
    disk.remove(folder / PREVIOUS)
