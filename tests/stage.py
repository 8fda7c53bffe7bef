"""What pages show, and a stage on which a page's blocks run in their order, on small things."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rawdiff.cli.main import main
from rawdiff.recipe_file import merge

ROOT = Path(__file__).parents[1]

FEW: Mapping[str, str] = {
    "train": "train.num_steps=4 train.batch_size=8 train.tensorboard=false train.picture_every=4 "
    "checkpoint.every_steps=2 sample.num_steps=2",
    "sample": "sample.num_samples=4 sample.num_steps=2",
    "eval": "evaluate.num_samples=8 sample.num_steps=2",
    "tune": "--num-samples 8 sample.num_steps=2",
    "likelihood": "evaluate.num_samples=4 sample.num_steps=2",
    "bench": "--seconds 1 train.batch_size=8",
}
"""Keys that make a command quick; they stand last and so win."""


class Block(NamedTuple):
    """Of a page: the heading above it, its language, and its text."""

    heading: str
    language: str
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Those of a page in these languages."""
    found, heading = [], ""
    marks = r"^```(\w*)\n(.*?)^```|^#+ (.*?)$"
    for language, text, title in re.findall(marks, page.read_text(), re.DOTALL | re.MULTILINE):
        heading = title or heading
        if not title and language in languages:
            found.append(Block(heading, language, text))
    return found


def commands(script: str) -> Iterator[list[str]]:
    """The words of each command of a script; redirections are among them."""
    for line in script.replace("\\\n", " ").splitlines():
        line = re.sub(r" \[(key=value \.\.\.|--[^]]*)\]", "", line)  # may be left out
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in (*lexer, "&&"):
            if word in ("&&", ";"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


@dataclass
class Stage:
    """A folder in which a page's commands, snippets and recipes are used as they are written.

    `stand_ins` puts something real for what the page leaves to its reader (`RUN`, `FOLDER`), in
    this order; `scenes` puts others from a heading on. `few` has keys that make a command quick, by
    one or more of its words. `elsewhere` names commands that are not for here, each with the test
    or the reason. `bases` complete the recipes under a heading, which `rawdiff check` must take;
    they are left in `HEADING.yaml`. `names` are seen by the snippets of Python.
    """

    folder: Path
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    scenes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    few: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)

    def play(self, page: Path) -> None:
        """Use all blocks of the page in their order; AssertionError where one fails."""
        with contextlib.chdir(self.folder):
            for block in blocks(page, "bash", "python", "yaml"):
                if block.heading in self.scenes:
                    self.stand_ins = {**self.stand_ins, **self.scenes[block.heading]}
                if block.language == "python":
                    text = self._with_stand_ins(block.text)
                    exec(compile(text, str(page), "exec"), self.names)
                elif block.language == "yaml":
                    self._check(block)
                else:
                    self.shell(block.text)

    def _check(self, block: Block) -> None:
        base = self.bases.get(block.heading, {})
        recipe = Path(f"{block.heading}.yaml")
        recipe.write_text(yaml.safe_dump(merge(base, yaml.safe_load(block.text))))
        assert main(["check", str(recipe)]) == 0

    def shell(self, script: str) -> None:
        """Run the commands of a script: rawdiff in this process, others in their own."""
        for words in commands(self._with_stand_ins(script)):
            if " ".join(words) not in self.elsewhere:
                self._run(words)

    def _with_stand_ins(self, text: str) -> str:
        for shown, real in self.stand_ins.items():
            text = re.sub(rf"(?<![\w.]){re.escape(shown)}(?!\w)", real, text)
        return text

    def _run(self, words: list[str]) -> None:
        target = None
        if ">" in words:
            place = words.index(">")
            (target,), words = words[place + 1 :], words[:place]
        while "=" in words[0]:  # OMP_NUM_THREADS=1 rawdiff …
            words = words[1:]
        if words[0] == "make":
            self._make(words[1])
        elif words[0] == "rawdiff":
            with contextlib.ExitStack() as stack:
                if target is not None:
                    file = stack.enter_context(Path(target).open("w"))
                    stack.enter_context(contextlib.redirect_stdout(file))
                words = [*words[1:], *self._few(words[1:])]
                code = main(words)
            assert code == 0, f"rawdiff {shlex.join(words)} ends with {code}"
        else:
            self._own_process(words)

    def _few(self, words: Sequence[str]) -> list[str]:
        line = f" {' '.join(words)} "
        found = [keys for part, keys in self.few.items() if f" {part} " in line]
        return shlex.split(" ".join((FEW.get(words[0], ""), *found)))

    def _make(self, goal: str) -> None:
        """What make would run, but for the environment."""
        said = subprocess.run(
            ["make", "--dry-run", "--always-make", "--directory", str(ROOT), goal],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.replace("\\\n", " ")
        lines = re.findall(r"^\.venv/bin/((?:rawdiff|python) (?!-m pip).*)$", said, re.MULTILINE)
        assert lines, said
        for line in lines:
            self.shell(line)

    def _own_process(self, words: list[str]) -> None:
        program, *rest = words
        if program == "torchrun":
            module = rest.index("-m")
            rest = ["--nproc-per-node", "2", *rest[module:], *self._few(rest[module + 2 :])]
            rest = ["-m", "torch.distributed.run", *rest]
        elif program == "python":
            rest += self._few(rest)
        else:
            assert program == "echo", f"who runs {shlex.join(words)}?"
            return
        done = subprocess.run(
            [sys.executable, *rest],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}"
