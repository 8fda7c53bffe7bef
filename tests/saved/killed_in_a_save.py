"""`rawdiff`, killed in a phase (KILL_IN) of the save of a step (KILL_AT)."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from torch.distributed.checkpoint import filesystem

from rawdiff.cli.main import main
from rawdiff.saved import publish
from rawdiff.saved.saving import Saver

saving = 0  # the step


def kill() -> None:
    if saving == int(os.environ["KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)


def begin(self: Saver, state: dict[str, Any], step: int) -> None:
    global saving
    self.finish()
    saving = step
    original_begin(self, state, step)


def killed_before(function: Callable[..., Any]) -> Callable[..., Any]:
    def killed(*args: Any, **kwargs: Any) -> Any:
        kill()
        return function(*args, **kwargs)

    return killed


def killed_in_the_middle(*args: Any, **kwargs: Any) -> Any:
    """After some tensors of a shard were written."""
    global written
    written += 1
    if written % 10 == 0:
        args[1].flush()
        kill()
    return write_item(*args, **kwargs)


written = 0
original_begin, Saver.begin = Saver.begin, begin
write_item = filesystem._write_item
match os.environ["KILL_IN"]:
    case "write":
        filesystem._write_item = killed_in_the_middle
    case "publish":
        publish.publish = killed_before(publish.publish)
    case "delete":
        publish.shutil.rmtree = killed_before(publish.shutil.rmtree)
sys.exit(main())
