"""The machine a run is on, and how its libraries are set: CPUs fast without changing a result, GPUs repeatable if
asked.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import lru_cache

import torch

from junkdna.errors import Fault, UserError, one_line

PRODUCTS = 128
"""Compiled products that are kept: of several steps, since one has some 40 (MiniLM, packed)."""


def make_accelerator(precision: str, processes: int, tracker: str | None = None, project_dir: str | None = None):
    """Make the process's accelerator: CUDA, else Apple's, else the CPU.

    ``precision`` is "no", "bf16" or "fp16"; ``processes`` how many there should be; ``tracker`` the trackers to log
    with. Raises UserError for a precision that the device cannot do.
    """
    import accelerate

    try:
        accelerator = accelerate.Accelerator(
            mixed_precision=precision,
            log_with=tracker,
            project_dir=project_dir,
            cpu=not torch.accelerator.is_available(),  # unless told, it takes several CPU processes for unrelated ones
        )
    except (ValueError, RuntimeError) as error:
        left = [name for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if name in os.environ]
        if left and "MASTER_" in str(error):
            said = f"{left[0]} is set, as a launcher does, but {one_line(str(error))}; unset it, or start with torchrun"
            raise UserError(said) from None
        setting = ("report_to", tracker) if tracker else ("mixed_precision", precision)
        raise UserError(Fault(*setting, str(error))) from None
    accelerator.gradient_accumulation_steps = 1  # the loop accumulates by itself, whatever the environment says
    if accelerator.num_processes != processes:
        raise RuntimeError(f"{processes} processes were started, accelerate joined {accelerator.num_processes}")
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise UserError(Fault("mixed_precision", "fp16", "needs a GPU; on a CPU use bf16 or no"))
    return accelerator


def configure(accelerator, deterministic: bool) -> None:
    """Set torch for the device: fast products that are exact on a CPU, exact ones on a GPU, and repeatable kernels
    there if that is wanted.
    """
    if accelerator.device.type == "cpu":
        keep_few_products()
        use_fast_exact_matmul()
        keep_freed_memory()
    else:
        use_exact_kernels()
        configure_determinism(deterministic)


def describe(accelerator) -> dict:
    """What the run was computed on."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {
        "device": device.type,
        "name": name,
        "num_processes": accelerator.num_processes,
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "platform": platform.platform(),
    }


def cpu_name() -> str:
    """The processor's name, with family and model where Linux tells them: clouds call several generations by one
    name.
    """
    try:
        with open("/proc/cpuinfo") as file:
            said = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        said = {}
    said = {name.strip(): value.strip() for name, value in said.items()}
    name = said.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {said['cpu family']}, model {said['model']})" if "cpu family" in said else name


def keep_few_products() -> None:
    """Hold torch to a bounded number of compiled products; to be called before the process's first one.

    oneDNN compiles one for every shape, and it and torch keep 1,024 each, of a megabyte and more. Rows of ever new
    lengths fill that: a grid of CommonsenseQA grew to 5 GB. A user's own setting stands.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, str(PRODUCTS))


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors for the next ones; elsewhere do nothing.

    It hands blocks of 32 MiB and more back to the system at once, and a training step that allocates large tensors anew
    then waits for the system to zero the pages.
    """
    trim_threshold, mmap_threshold = -1, -3  # as mallopt(3) numbers them
    if (glibc := _glibc()) is not None:
        glibc.mallopt(mmap_threshold, 1 << 30)
        glibc.mallopt(trim_threshold, (1 << 31) - 1)


def give_back_freed_memory() -> None:
    """Have glibc hand what it keeps back to the system; called between runs, it holds the process to one run's
    memory.
    """
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


def use_exact_kernels() -> None:
    """On a GPU, compute fp32 products in full, whatever the environment asks for, and attention without cuDNN.

    In torch 2.11 cuDNN's attention is the first choice in half precision on an H100 or H200. There it rounds the rate
    of dropout to sixteenths, 0.1 to 0.125 or 0.0625 (pytorch#174245), and makes a plan for every new shape.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.enable_cudnn_sdp(False)


def configure_determinism(wanted: bool) -> None:
    """Let CUDA take only kernels that give the same bits each time, or whichever are fastest.

    To be called before the process's first matrix product, whose library reads its workspace's size once.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # one workspace per stream, as NVIDIA asks for it
    torch.use_deterministic_algorithms(wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads memory that it has not written
    torch.backends.cudnn.benchmark = False


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):
        return None


@lru_cache(maxsize=1)
def use_fast_exact_matmul() -> str:
    """On a CPU, let fp32 products take oneDNN's kernels if they are as exact there; returns the precision in force.

    Elsewhere than on Intel's CPUs the default library takes a slow path (about half the speed on AMD). The setting that
    avoids it, 'medium', permits lower precision on some CPUs, so it stays only if a product shows fp32 accuracy.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    plain_error = float((a @ b - exact).abs().max())
    torch.set_float32_matmul_precision("medium")
    if float((a @ b - exact).abs().max()) > 4 * plain_error:
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()
