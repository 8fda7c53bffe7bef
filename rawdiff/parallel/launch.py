"""What a launcher such as torchrun tells this process, and how one of several ends.

Nothing here needs torch, so that the command line answers before torch is imported.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rawdiff.errors import UserError


class PeerFailedError(Exception):
    """Another process of the run failed: it has said why, or this says what is known of it."""


def leave(code: int) -> NoReturn:
    """End this process.

    One of several ends without taking the interpreter down: torch's threads of gloo may still ask
    for it then, and abort a process that has done all its work.
    """
    if variable("WORLD_SIZE", 1) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def speaks_for_all(error: UserError | None = None) -> bool:
    """Whether this process shows a result or an error: what all meet before they join, one says."""
    return variable("RANK", 0) == 0 or bool(getattr(error, "__notes__", None))


def variable(name: str, default: int) -> int:
    """One that the launcher sets; UserError where it is no number."""
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UserError(f"The variable {name} is `{text}`; torchrun sets it to a number.") from None
