"""`rawdiff` as a process, and what becomes of an error: a sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from rich.console import Console

from rawdiff.cli import completion
from rawdiff.cli.parser import make_parser, parse
from rawdiff.errors import UserError
from rawdiff.parallel.launch import PeerFailedError, leave, speaks_for_all
from rawdiff.train.stopping import STOPPED, StoppedError

PEER_FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes, beside 0 for what is done and STOPPED. (`rawdiff.cli.manual` explains all)"""


def command(argv: Sequence[str] | None = None) -> NoReturn:
    """`rawdiff`, as a process of its own."""
    if completion.ASKED in os.environ:
        completion.answer(*make_parser())
    leave(main(argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is shown without a trace, with exit code 2."""
    args = parse(argv)
    try:
        return args.function(args) or 0
    except StoppedError:
        return STOPPED
    except UserError as error:
        if speaks_for_all(error):
            _complain(error)
        return MISTAKE
    except OSError as error:
        sys.stderr.write(f"rawdiff: the system refuses: {error}. Mend that and try again.\n")
        return MISTAKE
    except PeerFailedError as error:
        if str(error):
            _complain(error)
        return PEER_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        # pydantic makes an error of its own of a signal that falls into its work
        if isinstance(error.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(error.__cause__, StoppedError):
            return STOPPED
        for note in _whose("".join(traceback.format_exception(error))):
            error.add_note(note)
        raise


def _whose(trace: str) -> Iterator[str]:
    """Which adapters and datasets of other packages a trace goes through, and how to check them."""
    from rawdiff.plugins import Kind, plugins, plugins_of_others  # slow: not before an error

    checks: tuple[tuple[Kind, str], ...] = (("adapters", "adapter"), ("datasets", "dataset"))
    for kind, word in checks:
        others, found = plugins_of_others().get(kind, {}), dict[str, list[str]]()
        for plugin in plugins(kind):
            file = plugin.target.partition(":")[0].replace(".", os.sep) + ".py"
            if plugin.name in others and f"{os.sep}{file}" in trace:
                found.setdefault(plugin.package, []).append(plugin.name)
        for package, names in found.items():
            yield (
                f"rawdiff: {package} is in this trace. `rawdiff check-{word} "
                f"{'|'.join(names)}` says which promises its {word} breaks."
            )


def _complain(error: Exception) -> None:
    """With the process that it befell, where there are several."""
    where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"rawdiff: {error}{where}", markup=False)
