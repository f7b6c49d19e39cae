"""The Hub, when it can be reached; its local cache at once when it cannot.

The Hugging Face libraries retry for minutes without a network. One short question, asked before they are imported,
decides whether they may try at all.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request

from junkdna import glue
from junkdna.errors import UserError

PATIENCE = 6.0
"""Seconds to wait for the Hub's first answer."""

_reachable: bool | None = None


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def settle() -> bool:
    """Find out once whether the Hub answers; if not, tell the libraries to use their caches only.

    Must run before ``huggingface_hub``, ``transformers`` or ``datasets`` are imported: they read the environment then.
    """
    global _reachable
    if _reachable is None:
        offline = any(
            os.environ.get(name, "0").upper() in ("1", "TRUE", "YES", "ON")
            for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        )
        _reachable = not offline and _answers()
        if not _reachable:
            os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    return _reachable


def _answers() -> bool:
    """Ask the Hub for anything. In a thread, because looking a name up cannot be given a time limit."""
    answered = []

    def ask():
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint(), method="HEAD"), timeout=PATIENCE)
            answered.append(True)
        except urllib.error.HTTPError:
            answered.append(True)  # an answer all the same
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return bool(answered)


def load_glue(name: str) -> dict:
    """Return the splits of one GLUE task as ``datasets`` gives them; raises UserError when they cannot be had."""
    reachable = settle()
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(glue.HUB_NAME, name)
    except Exception as error:  # the libraries raise a dozen kinds of error for the same two situations
        reason = (
            f"{endpoint()} answers, but: {type(error).__name__}: {error}"
            if reachable
            else (f"{endpoint()} cannot be reached, and {glue.HUB_NAME} is not in the local cache")
        )
        raise UserError(
            f"--task_name {name}: {reason}; give --glue_dir with a local copy, or files of your own "
            "with --train_file and --validation_file"
        ) from None
