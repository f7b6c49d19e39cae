"""Every key of every file that a run leaves in its folder."""

from __future__ import annotations

RESULTS = {
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
    "step": "optimizer steps taken",
    "sparsity": "fraction of the weights in scope that the mask removes",
    "zero_fraction": "fraction of the weights in scope that are exactly 0 in the evaluated model, counted",
}
HISTORY = {
    "epoch, step": "as above, at this epoch's end",
    "train_loss, eval_*": "as above, of this epoch",
    "learning_rate": "of the epoch's last step",
    "train_seconds, eval_seconds": "wall time",
    "tokens": "tokens trained on in this epoch, padding not counted",
}
RUN = {
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
    "one is the main one",
    "settings": "the resolved configuration: everything that may change the result",
    "options": "the settings that change no result, or by rounding at most",
    "code": "version, git commit of the program's folder, and whether files were changed since",
    "versions": "of Python and the libraries",
    "hardware": "device, its name, processes, threads, float32 matmul precision",
    "model": "name, revision (the commit, from the Hub), weight_hash (SHA-256 of what was loaded), drawn (fresh "
    "parameters), parameters, notes (what was found odd about it and how it was settled, a line each)",
    "data": "source; per split: rows available and used, SHA-256 of the rows used, examples at the maximum length, "
    "rows skipped, share of the most frequent label; columns read (texts, label); kind (classification or "
    "regression); label names (none: a regression); metrics, the main one first; of questions also cut (texts that "
    "were shortened), lost (of these, those that lost every answer), longest_prompt (tokens), unanswerable (if there "
    "are any: questions of whose accepted answers normalisation leaves nothing), examples (ids); of fine-tuned "
    "encoders recurring (validation rows with the texts of a training row: exact; of word problems also masked, "
    "whatever the numbers); of multiple choice also num_choices, doubled (questions of which a wrong choice reads "
    "like the right one); of word problems also noisy (problems whose equation does not give their answer), unseen "
    "(those whose text is not in training), vocabulary, unwritable (problems whose equation has a symbol that no "
    "training equation has), usual (the one equation that solves most of them)",
    "plan": "examples per step, steps in all and per epoch, warm-up steps, batches (packed, or padded or of equal "
    "length and why), probe (odd rows looked at, largest difference between their outputs in such batches and alone), "
    "taken (how, since the last checkpoint: operation by operation, or as CUDA graphs, and why no more of them)",
    "pruning": "score and pattern in words, scope (weights and matrices), asked and removed and kept counts, sparsity, "
    "threshold (largest magnitude removed), mask_hash, zeros_before (weights that were 0 before, and how many of these "
    "are among the removed), head and embeddings (weights and removed), matrices (the same for each), left_out "
    "(name: reason)",
    "timings": "seconds: data, load, prune, train, evaluate, total (also of before a checkpoint from which the run "
    "went on); answer, perplexity, walk_calibrate, walk_prune (of the pruned model that cells share)",
    "identity": "SHA-256 of what enters the numbers: settings, training_data (texts and labels), training_rows and "
    "validation_rows (token ids and labels), model_weights, model_config (as resolved), tokenizer, mask (null: dense); "
    "of questions: questions, prompts, calibration and windows (of perplexity; token ids) in the place of the rows; of "
    "translations also test_text and test_rows",
    "read": "SHA-256 of the files of a local model, and of those that flags name: --mask_file, --data_file, ...",
    "files": "SHA-256 of mask.safetensors, predictions.jsonl and all_results.json; empty while the run goes on",
    "model_files": "names of the saved model's files, if it was saved",
    "unwritten": "what could not be written at the end, such as the model, and why",
    "seal": "SHA-256 of all the rest, as JSON with sorted keys and without spaces",
    "resumed": "checkpoints from which the run went on: step, when, seconds that it had taken by then, and code, "
    "versions and hardware up to there",
    "best": "epoch with the best main metric, and its metrics; the last epoch is the one that counts",
    "collapsed": "of a fine-tuned encoder whether the main metric is at most two points above what one answer to all "
    "examples reaches",
}
ASKED = {
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

TRANSLATED = {
    "scores": "of each direction: every measure; floor (what copying the source gets); signatures of sacreBLEU; "
    "tokenizer, tokenizer_reason (what BLEU takes for words, and why); references_tokenised (whether they look cut "
    "into words); ended (how many translations ended how); tokens",
    "trained_by": "of the run whose training was taken over, if one was: folder, started, and code, versions, hardware "
    "and resumed as in its record; the timings are then without a training",
}
"""What ``run.json`` also holds of a run that translates; of a zero-shot run there is no plan, of none a best epoch.
Under ``model`` also kind and languages (how the model is told each direction). Under ``data`` test, and by language
pair train and validation: source, rows, empty (without text on a side), used, sha256, dropped (with a side longer than
``longest`` tokens), cut (sources longer than the model's positions), recurring (test rows that are training rows of
their pair too, both sides alike).
"""

PREDICTIONS = {
    "id": "of the question: the data's own, or its row",
    "prompt_sha256": "of the prompt as the model was given it",
    "raw": "what the model wrote, special tokens left out",
    "answer": "the first line of it, normalised as it is scored",
    "ended": "why it ended: line, eos, length, or nan (the model put out no numbers)",
    "scores": "of the answer, by the metrics' names",
}
CLASSES = {
    "id": "of the example: the task, and its row on the validation split (of MNLI the matched one), from 0: rte/17",
    "prediction, label": "the index of the class that was predicted, and of the right one; of a regression two numbers",
    "logits": "what the model gave every class, in the task's order; a regression has none",
}
"""A line of ``predictions.jsonl`` of a run on texts with labels."""

CHOICES = {
    "id": "of the question: the data's own, or its row",
    "choice, label": "the index of what was chosen, and of the right choice",
    "logits": "what the model gave every choice",
    "scores": "whether it is right, by the metric's name",
}
EQUATIONS = {
    "id": "of the problem: the data's own, or its file and row",
    "equation": "what the model wrote, in prefix form",
    "value": "what it gives with the problem's numbers; null: malformed, or a division by zero",
    "answer": "what it should give",
    "ended": "why it ended: end, or length (cut at the longest)",
    "scores": "whether its value is the answer, and whether it is the data's own equation, by the metrics' names",
}
TRANSLATIONS = {
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

ERROR = {
    "schema": "version of this layout, 2",
    "family, axes, treatment, roles, settings, command": "as in run.json",
    "error": "what went wrong, one line",
    "traceback": "where in the program; null for a mistake of the user's",
    "failed_at": "UTC, ISO 8601",
    "seal": "as in run.json",
}
