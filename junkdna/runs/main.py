"""The one ``main`` of every entry."""

from __future__ import annotations

import os
import signal
import sys

from junkdna.errors import UserError
from junkdna.runs import grid, processes, request, stopping
from junkdna.runs.family import Family
from junkdna.runs.jobs import run as jobs
from junkdna.runs.shared import Shared
from junkdna.runs.speech import explain, say, set_up_output


def main(family: Family, argv: list[str] | None = None) -> int:
    """Run what a command line asks for; return the exit code.

    0; 1: runs failed that had begun; 2: a user's mistake; 130 and 143: ended by Ctrl-C or SIGTERM.
    """
    set_up_output()
    with stopping.listening():
        asked = None
        try:
            asked = request.parse(family, argv)
            return _main(family, asked)
        except (UserError, ModuleNotFoundError) as error:
            return _stopped(asked) if stopping.received() else explain(error)
        except BrokenPipeError:  # whoever read the output has gone, as in  ... --dry_run | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt as error:
            return _stopped(asked, error)
        except Exception:
            if not stopping.received():  # libraries turn what interrupts them into errors of their own
                raise
            return _stopped(asked)


def _main(family: Family, asked: request.Request) -> int:
    jobs.preflight(asked)
    shared = Shared()
    grid.preflight(family, asked, shared)
    if asked.dry_run:
        jobs.print_dealt(family, asked, shared)
        return 0
    dealt = jobs.deal_cells(family, asked, shared)
    if dealt:
        grid.discard_checkpoints(asked)
        return jobs.run(family, asked, dealt)
    grid.pass_over_checkpoints(asked)
    processes.start_the_others(list(asked.argv))
    return grid.exit_code(grid.run(family, asked, shared))


def _stopped(asked: request.Request | None, error: KeyboardInterrupt | None = None) -> int:
    """Say in one line that the program was ended; return the exit code that says by which signal."""
    stop = error if isinstance(error, stopping.Stopped) else stopping.Stopped(stopping.received() or signal.SIGINT)
    overwrites, several = (asked.overwrite_output_dir, len(asked.cells) > 1) if asked else (False, False)
    say(stop.words(overwrites, several), sys.stderr)
    return stop.code
