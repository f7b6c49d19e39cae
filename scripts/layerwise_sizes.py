"""Prune a Llama of a given shape with random bf16 weights, layer by layer: time, peak memory, share of calibration.

    python scripts/layerwise_sizes.py --shape 1.1b --out sizes.json
    python scripts/layerwise_sizes.py --shape 7b --methods magnitude --out sizes.json
    python scripts/layerwise_sizes.py --shape 7b --methods wanda sparsegpt --only_blocks 1 --out sizes.json

Each method runs in a process of its own, on the CPU. With ``--only_blocks`` a model of so many blocks is measured, and
the time of all is computed from it. CPU seconds are those of all threads, and are what counts where other programs
share the machine. Times of calibration grow with the number of tokens: the table also gives the time
computed for ``--computed_tokens``. Prints a Markdown table and writes everything to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmark.processes import environment, run
from junkdna.errors import UserError

SHAPES = {
    "1.1b": {"hidden": 2048, "intermediate": 5632, "blocks": 22, "heads": 32, "kv_heads": 4, "vocabulary": 32000},
    "7b": {"hidden": 4096, "intermediate": 11008, "blocks": 32, "heads": 32, "kv_heads": 32, "vocabulary": 32000},
    "tiny": {"hidden": 64, "intermediate": 96, "blocks": 3, "heads": 4, "kv_heads": 2, "vocabulary": 128},
}
"""TinyLlama's shape and Llama-7B's; the last one is to see that this works."""

METHODS = ("magnitude", "wanda", "sparsegpt")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--shape", default="1.1b", choices=SHAPES, help="of the model")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="each in a process of its own")
    add("--sparsity", default="0.5", help="fraction removed, in [0, 1); or N:M, as 2:4")
    add("--nsamples", type=int, default=8, help="calibration samples")
    add("--seqlen", type=int, default=1024, help="tokens of each")
    add("--computed_tokens", type=int, default=128 * 2048, help="tokens of the calibration whose time is computed")
    add("--only_blocks", type=int, help="measure a model of so many blocks (default: all)")
    add("--threads", type=int, default=1, help="of the measured process")
    add("--out", default="layerwise_sizes.json", metavar="FILE.json", help="where the measurements go")
    add("--here", choices=METHODS, help=argparse.SUPPRESS)  # the measured process
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure every method; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    asked = parse(argv)
    if asked.here:
        Path(asked.out).write_text(json.dumps(measure(asked)))
        return 0
    found = []
    with tempfile.TemporaryDirectory(prefix="sizes-") as folder:
        for method in asked.methods:
            file = Path(folder, f"{method}.json")
            words = [str(Path(__file__).resolve()), *argv, "--here", method, "--out", str(file)]
            done = run(words, environment("cpu", asked.threads), Path(folder))
            found.append(computed(asked, {**json.loads(file.read_text()), "peak_of_process": done.peak}))
            print(f"{method}: {done.seconds:.0f} s in all", file=sys.stderr)
    print(table(found))
    Path(asked.out).write_text(json.dumps(found, indent=1) + "\n")
    return 0


# --- the measured process --------------------------------------------------------------------------------------------


def measure(asked: argparse.Namespace) -> dict:
    """Make the model, prune it by one method, and return what it took."""
    import torch

    from benchmark.measure import Peak
    from junkdna.sparsity.hold import verify
    from junkdna.sparsity.layerwise import prune_layerwise
    from junkdna.sparsity.methods import CALIBRATED
    from junkdna.sparsity.patterns import Unstructured, parse_nm

    torch.manual_seed(0)
    shape = SHAPES[asked.shape]
    blocks = min(asked.only_blocks or shape["blocks"], shape["blocks"])
    begun = time.perf_counter()
    model = made(shape, blocks)
    made_in = time.perf_counter() - begun
    pattern = parse_nm(asked.sparsity) if ":" in asked.sparsity else Unstructured(asked.sparsity)
    inputs = torch.randint(0, shape["vocabulary"], (asked.nsamples, asked.seqlen))
    peak, begun, cpu = Peak(torch.device("cpu")), time.perf_counter(), time.process_time()
    done = prune_layerwise(
        model,
        pattern,
        asked.here,
        inputs=inputs,
        on_block=lambda number, total: print(f"{number}/{total} {time.perf_counter() - begun:.0f} s", file=sys.stderr),
    )
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    memory = {"peak": peak.bytes(), "beside_the_model": peak.extra()}
    if verify(model, done.masks) != done.census.asked:
        raise RuntimeError("the counts are not what was asked for")
    return {
        "method": asked.here,
        "shape": asked.shape,
        "pattern": done.census.pattern,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "masked": done.census.size,
        "blocks": blocks,
        "of_blocks": shape["blocks"],
        "tokens": inputs.numel() if asked.here in CALIBRATED else 0,
        "seqlen": asked.seqlen,
        "threads": torch.get_num_threads(),
        "made_in": made_in,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "calibrate": done.seconds["calibrate"],
        "prune": done.seconds["prune"],
        **memory,
        "findings": done.findings,
    }


def made(shape: dict, blocks: int):
    """A Llama with random weights in bf16, without ever holding more than the weights themselves."""
    import torch
    import transformers
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["intermediate"],
        num_hidden_layers=blocks,
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=2048,
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for block in model.modules():
        for name, parameter in block.named_parameters(recurse=False):
            weight = torch.empty(parameter.shape, dtype=torch.bfloat16)
            weight = weight.normal_(0, 0.02) if weight.dim() == 2 else weight.fill_(1)
            setattr(block, name, torch.nn.Parameter(weight, requires_grad=False))
    model.model.rotary_emb = LlamaRotaryEmbedding(config)
    return model


# --- what it comes to ------------------------------------------------------------------------------------------------


def computed(asked: argparse.Namespace, found: dict) -> dict:
    """Add the CPU seconds of all blocks, and those with so many calibration tokens, computed from the measured."""
    times = found["of_blocks"] / found["blocks"]
    tokens = asked.computed_tokens / found["tokens"] if found["tokens"] else 1
    calibrate = found["calibrate"] / found["seconds"] * found["cpu_seconds"]
    found["all_blocks"] = times * found["cpu_seconds"]
    found["all_blocks_all_tokens"] = times * (calibrate * tokens + found["cpu_seconds"] - calibrate)
    found["computed_tokens"] = asked.computed_tokens if found["tokens"] else 0
    return found


def table(found: list[dict]) -> str:
    """The measurements as a Markdown table."""
    lines = [
        "| model | method | blocks measured | tokens | seconds | CPU seconds | calibration | peak memory "
        "| beside the model | all blocks, computed | with all tokens, computed |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found:
        peak, beside = (f"{row[name] / 1e9:.2f} GB" if row[name] else "" for name in ("peak", "beside_the_model"))
        share = row["calibrate"] / row["seconds"]
        lines.append(
            f"| {row['shape']} | {row['method']} | {row['blocks']} of {row['of_blocks']} | {row['tokens']:,} "
            f"| {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {share:.0%} | {peak} | {beside} "
            f"| {row['all_blocks']:,.0f} s | {row['all_blocks_all_tokens']:,.0f} s ({row['computed_tokens']:,}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
