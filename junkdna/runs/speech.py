"""What the program says: in the words of the command line, and from the main process only."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

from junkdna.errors import Fault, UserError, one_line, visible
from junkdna.runs import processes

FLAGS = {"model": "model_name_or_path", "nm": "nm_ratio", "exclude": "prune_exclude", "mask": "mask_file"}
"""The flags of settings that the library calls otherwise."""


def as_flag(fault: Fault | str) -> str:
    """A fault in the words of the command line: its setting is a flag."""
    if not isinstance(fault, Fault):
        return str(fault)
    return f"--{Fault(FLAGS.get(fault.setting, fault.setting), fault.value, fault.reason)}"


def in_one_line(error: Exception) -> str:
    """One-line message of an error, prefixed with its type unless it is a UserError."""
    if isinstance(error, UserError):
        return "; ".join(map(as_flag, error.faults))
    return one_line(" ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]]))


def explain(error: UserError | ModuleNotFoundError) -> int:
    """Tell the user of a mistake, or of a package that is not installed; return the exit code.

    A missing module of the program itself is a bug: it is raised again. Only the main process speaks.
    """
    if isinstance(error, UserError):
        faults = [as_flag(fault) for fault in error.faults]
    elif error.name is None or error.name.startswith("junkdna"):
        raise error
    else:
        faults = [f"the package {error.name} is not installed; pip install -r requirements.txt"]
    for fault in faults:
        say(f"error: {fault}", sys.stderr)
    return error.code if isinstance(error, UserError) else 2


def say(text: str, stream=None) -> None:
    """Print a line from the main process, on standard output unless told, without disturbing a progress bar.

    Control characters, which may come from a file or a record, are escaped. A line that cannot be written, as to a log
    on a full disk, is lost: it costs the run nothing. Raises BrokenPipeError where nobody reads any more.
    """
    if processes.is_main_process():
        stream = stream or sys.stdout
        try:
            tqdm.write(visible(text, keep="\n\t"), file=stream)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError:
            return


def open_streams() -> None:
    """Have what the terminal's encoding cannot show come out as ``?``, instead of ending a run that has gone well."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


class _Voice(logging.Handler):
    """Prints what the library logs, in the program's own manner."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}", sys.stderr)


def set_up_output() -> None:
    """Have the library's log go to standard error, and let no character end a run that cannot be shown."""
    open_streams()
    log = logging.getLogger("junkdna")
    if not any(isinstance(handler, _Voice) for handler in log.handlers):
        log.addHandler(_Voice())
        log.propagate = False
