"""The Hub, when it can be reached; its local cache at once when it cannot.

The Hugging Face libraries retry for minutes without a network. One short question, asked before they are imported,
decides whether they may try at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from junkdna.errors import Fault, UserError

PATIENCE = 6.0
"""Seconds to wait for the Hub's first answer."""

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "model*.safetensors",
    "model.safetensors.index.json",
    "*token*.json",
    "vocab*",
    "target_vocab.json",
    "merges.txt",
    "*.model",
    "*.spm",
    "equation_decoder.*",
)
"""Files of a saved model, in a run whose record does not name them: it was made before records did."""

DOWNLOADED = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.codes")
"""What is fetched for a model and its tokenizer, beside the weights; in folders too, as more chat templates are."""

LONGEST = 96
"""Characters that a repository's name may have."""

_reachable: bool | None = None


def endpoint() -> str:
    """The Hub's address, without a slash at its end: ``HF_ENDPOINT``, or the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def reach() -> bool:
    """Find out once whether the Hub answers; if not, tell the libraries to use their caches only.

    Must run before ``huggingface_hub``, ``transformers``, ``accelerate`` or ``datasets`` are imported: they read the
    environment then.
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


def find_model(name: str, revision: str, file: str | None = None) -> None:
    """Refuse a name that neither the Hub nor the cache has, long before its weights are wanted.

    ``file`` is the one to look for in the repository (None: config.json). Raises UserError.
    """
    reachable = reach()
    from huggingface_hub import errors, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        hf_hub_download(name, file or "config.json", revision=revision)
        return
    except errors.RemoteEntryNotFoundError:
        reason = f"has no {file or 'config.json'} at {endpoint()}"
    except errors.GatedRepoError:
        reason = f"is gated; ask for access at {endpoint()}/{name}, then 'hf auth login'"
    except errors.RepositoryNotFoundError:
        reason = f"{no_folder(name)}, and no such model at {endpoint()} (a private one needs 'hf auth login')"
    except errors.RevisionNotFoundError:
        raise UserError(Fault("model_revision", revision, f"{name} has no such branch, tag or commit")) from None
    except Exception as error:
        reason = f"{endpoint()} answers, but: {first_line(error)}"
        if not reachable:
            reason = (
                f"{no_folder(name)}, {endpoint()} cannot be reached, and the model is not in the local cache; give "
                "a folder"
            )
    raise UserError(Fault("model", name, reason))


def no_folder(name: str) -> str:
    """Why a name is not that of a model's folder."""
    return "is a folder without config.json" if os.path.isdir(name) else "no such folder"


def download(name: str, revision: str) -> str:
    """Fetch a model's files (weights as safetensors where there are any) and return the folder that the cache keeps
    them in.
    """
    from huggingface_hub import snapshot_download

    folder = snapshot_download(name, revision=revision, allow_patterns=[*DOWNLOADED, "*.safetensors"])
    if not any(Path(folder).glob("*.safetensors")):
        snapshot_download(name, revision=revision, allow_patterns=["*.bin"])
    return folder


def commit_of(name: str, revision: str, file: str | None = None) -> str | None:
    """The commit of a model whose configuration was just loaded, from the folder where the cache keeps it.

    ``file`` is the one that holds the configuration (None: config.json).
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file or "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def first_line(error: Exception) -> str:
    """What a library's error says, in one line; with its kind where the text alone may not say it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    clear = text and isinstance(error, (OSError, ValueError, RuntimeError))
    return text if clear else f"{type(error).__name__}: {text}"


def _status(error: Exception) -> int | str:
    """The Hub's answer in short. Not the error's text: it may hold a token."""
    return getattr(getattr(error, "response", None), "status_code", type(error).__name__)


def load_dataset(name: str, config: str) -> dict:
    """Return the splits of a data set as ``datasets`` gives them; raises UserError when they cannot be had."""
    reachable = reach()
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        return datasets.load_dataset(name, config)
    except Exception as error:  # the libraries raise a dozen kinds of error for the same two situations
        raise UserError(Fault("dataset", config, _why_not(name, error, reachable))) from None


def fetch_files(name: str, pattern: str) -> tuple[list[Path], str]:
    """Fetch those files of a data set whose paths fit a pattern (``*`` stands for anything), and no others.

    Returns them in the order of their names, where the cache keeps them, with the data set's commit. Without the Hub
    the cache serves, which ``datasets`` cannot do for a part of a data set. Raises UserError when they cannot be had.
    """
    reachable = reach()
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", allow_patterns=pattern))
        files = sorted(folder.glob(pattern))
        if not files or ("*" in pattern and not _all_parts(files)):
            raise FileNotFoundError(f"{name} has no {pattern}, or not all of its parts")
    except Exception as error:  # as above
        raise UserError(Fault("dataset", name, _why_not(name, error, reachable))) from None
    return files, folder.name  # the cache keeps each commit in a folder


def rows(files: Iterable[Path], columns: Iterable[str], together: int) -> Iterator[dict]:
    """Yield the rows of parquet files, ``together`` of them in memory at a time, with these columns."""
    from pyarrow import parquet

    for file in files:
        for batch in parquet.ParquetFile(file).iter_batches(together, columns=list(columns)):
            yield from batch.to_pylist()


def _all_parts(files: list[Path]) -> bool:
    """Whether there are as many files as their names say (``-00000-of-00004``): a broken download leaves some."""
    said = re.search(r"-of-(\d+)", files[-1].name)
    return said is None or int(said[1]) == len(files)


def _why_not(name: str, error: Exception, reachable: bool) -> str:
    """Why a data set cannot be had."""
    if reachable:
        return f"{endpoint()} answers, but: {first_line(error)}"
    return f"{endpoint()} cannot be reached, and {name} is not in the local cache"


# --- uploading -------------------------------------------------------------------------------------------------------


def repository_name(words: Iterable[str]) -> str:
    """Make one name of words that the Hub takes: at most ``LONGEST`` of A-Z, a-z, 0-9, ``.``, ``_`` and ``-``, without
    ``..`` and ``--``, and with neither ``.`` nor ``-`` at an end. A digest takes the place of what is too long.
    """
    whole = "-".join(words)
    name = re.sub(r"([.-])\1+", r"\1", re.sub(r"[^A-Za-z0-9._-]+", "-", whole)).strip(".-")
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{name[: LONGEST - 9].rstrip('.-')}-{digest}"


def check_login(repo: str) -> None:
    """Refuse, before anything is trained, an upload that cannot succeed. No message may hold any part of a token."""

    def refuse(reason: str) -> UserError:
        return UserError(Fault("push_to_hub", "", f"{repo}: {reason}"))

    if not reach():
        raise refuse(f"{endpoint()} cannot be reached; leave it out; the saved model can be uploaded later")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        HfApi().whoami(cache=True)
    except HFValidationError as error:
        raise refuse(f"is not a valid repository name; give another (hub_model_id): {first_line(error)}") from None
    except LocalTokenNotFoundError:
        raise refuse(f"there is no token for {endpoint()}; run 'hf auth login' or set HF_TOKEN") from None
    except Exception as error:
        raise refuse(
            f"{endpoint()} rejects the token ({_status(error)}); run 'hf auth login' or set HF_TOKEN"
        ) from None


def push(folder: str, repo: str, names: list[str] | None) -> str:
    """Upload the model saved in a run's folder, and nothing else of it; return the repository's full name.

    ``names`` are the model's files and folders there (None: what looks like one, see ``MODEL_FILES``). Raises
    UserError, also if there are none.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    files = [
        f"{escape(path.name)}/*" if path.is_dir() else escape(path.name)
        for path in Path(folder).iterdir()
        if (any(fnmatch(path.name, kind) for kind in MODEL_FILES) if names is None else path.name in names)
    ]
    if not files:
        reason = f"{folder} holds no saved model to upload; --overwrite_output_dir runs it again"
        raise UserError(Fault("push_to_hub", "", f"{repo}: {reason}"))
    try:
        api = HfApi()
        name = api.create_repo(repo, exist_ok=True).repo_id
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=files)
    except Exception as error:
        reason = f"the upload failed ({_status(error)}); the run itself is complete: 'hf upload {repo} {folder}'"
        raise UserError(Fault("push_to_hub", "", f"{repo}: {reason}")) from None
    return name
