"""Virtual environments of a test's own, that see the libraries installed here but no more."""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT, ROOT / "adapters"]

DRIVER = """
import runpy, shlex, sys
from rawdiff.cli.main import main
codes = []
for line in sys.stdin.read().splitlines():
    words = shlex.split(line)
    if words[:2] == ["python", "-m"]:
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        codes.append(main(words[1:]))
sys.exit(codes[0] if len(set(codes)) == 1 else f"exit codes {codes}")
"""


@dataclass(frozen=True)
class FreshEnvironment:
    """Its own `python`, `pip` and site-packages; pip installs into it without the network."""

    path: Path
    folder: Path
    """Where commands run."""

    @property
    def variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return kept | {
            "PATH": f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which means: no isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def shell(self, script: str, expected: int = 0) -> str:
        """What a script of bash prints; AssertionError for another exit code."""
        return self._run(["bash", "-e", "-c", script], expected)

    def rawdiff(self, *lines: str, expected: int = 0) -> str:
        """What commands `rawdiff …` and `python -m …` print, all run by one process.

        AssertionError unless each `rawdiff` ends with the expected code.
        """
        program = [str(self.path / "bin" / "python"), "-c", DRIVER]
        return self._run(program, expected, "\n".join(lines))

    def _run(self, program: list[str], expected: int, text: str = "") -> str:
        done = subprocess.run(
            program,
            input=text,
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == expected, done.stdout
        return done.stdout


def fresh_environment(folder: Path, *, with_rawdiff: bool = True) -> FreshEnvironment:
    """A new one in a folder; with rawdiff as it is here, unless a wheel is to bring it."""
    path, work = folder / "venv", folder / "work"
    venv.create(path, symlinks=True)
    work.mkdir()
    seen = [Path(entry) for entry in sys.path if entry.endswith("site-packages")]
    lines = [*(SOURCES if with_rawdiff else []), *seen]
    site = next((path / "lib").glob("python*/site-packages"))
    (site / "seen.pth").write_text("".join(f"{line}\n" for line in lines))
    for name in ("pip", "rawdiff") if with_rawdiff else ("pip",):
        command = path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {path}/bin/python -m {name} "$@"\n')
        command.chmod(0o755)
    return FreshEnvironment(path, work)
