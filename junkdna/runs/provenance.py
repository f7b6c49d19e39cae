"""With which code and which libraries a run was made: those that this process has imported, whatever is checked out or
installed while its later runs wait. So each is looked up once.
"""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "evaluate",
    "numpy",
    "scikit-learn",
    "scipy",
    "sentencepiece",
    "sacrebleu",
)


def look_up() -> None:
    """Look both up before the libraries are imported: later they may be others on the disk."""
    versions()
    code_version()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_version() -> dict:
    """Version of the program and, in a git checkout, its commit and whether the working tree differs from it."""
    from junkdna import __version__

    here = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # a copy installed below some other checkout is not that checkout's code
    tracked = git("ls-files", "--error-unmatch", str(here / "__init__.py"))
    commit = git("rev-parse", "HEAD") if tracked else None
    changed = git("status", "--porcelain", "--", str(here), str(here.parent / "*_tasks/*.py")) if commit else None
    return {"version": __version__, "commit": commit, "changed": None if changed is None else bool(changed)}
