"""What `--help` ends with: commands that can be typed as they stand, and exit codes."""

from __future__ import annotations

EXIT_CODES = """\
exit codes:
  0    done
  1    another process of the run failed; `verify`: the newest checkpoint is damaged;
       `check-adapter`, `check-dataset`: a promise is broken
  2    a mistake that you can mend; the message says how
  75   stopped with a checkpoint: the same command continues
  130  interrupted
"""

SCRIPTS = """\
in scripts:
  --quiet shows mistakes alone. --json (check, bench, eval, likelihood, verify, list)
  prints JSON on standard output, and all else on standard error. NO_COLOR=1 takes
  the colours away.
"""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (
        "rawdiff train demo",
        "rawdiff train recipe.yaml train.num_steps=1000 model.depth=12",
        "rawdiff train images data.path=photographs",
    ),
    "check": (
        "rawdiff check demo",
        "rawdiff check imagenet_jit_b16 --world-size 64",
        "rawdiff check demo --json --quiet",
    ),
    "bench": (
        "rawdiff bench demo",
        "rawdiff bench recipe.yaml --synthetic --seconds 300",
        "rawdiff bench demo --json --quiet > numbers.json",
    ),
    "prepare": ("rawdiff prepare images data.path=photographs",),
    "sample": (
        "rawdiff sample runs/demo",
        "rawdiff sample runs/demo sample.num_samples=1000 sample.cfg_scale=2 --out digits",
        "rawdiff sample runs/weather --init 2020-01-01T00 --steps 40 --members 50",
        "rawdiff sample runs/demo --observe seen.npy --operator mask",
    ),
    "eval": (
        "rawdiff eval runs/demo",
        "rawdiff eval runs/demo --metric frechet,spectrum evaluate.num_samples=1000",
        "rawdiff eval runs/demo --json --quiet > scores.json",
    ),
    "likelihood": ("rawdiff likelihood runs/demo", "rawdiff likelihood runs/demo --num-probes 4"),
    "verify": ("rawdiff verify runs/demo", "rawdiff verify runs/demo --quiet && echo sound"),
    "replay": ("rawdiff replay runs/demo --step 480",),
    "tune": (
        "rawdiff tune runs/demo --num-samples 500",
        "rawdiff tune runs/demo --grid cfg_scale=1,1.5,2 --metric frechet",
    ),
    "study": ("rawdiff study figure2 --grid flow.prediction=x,eps,v --grid data.num_dims=2,512",),
    "import": (
        "rawdiff import jit checkpoint.pth jit_b16",
        "rawdiff import jit --help",
    ),
    "export": (
        "rawdiff export runs/demo digits --license cc-by-4.0",
        "rawdiff export runs/demo digits --weights power_0.1",
        "rawdiff export runs/demo network.pt2 --format torch_export",
    ),
    "report": ("rawdiff report runs/demo", "rawdiff report runs/demo --out page.html"),
    "new": ("rawdiff new adapter tides", "rawdiff new adapter tides packages/tides"),
    "check-adapter": (
        "rawdiff check-adapter images --shape 3,64,64 patch_size=8",
        "rawdiff check-adapter grid --data digits patch_size=[2,2]",
    ),
    "check-dataset": (
        "rawdiff check-dataset digits",
        "rawdiff check-dataset image_folder path=photographs size=64 --adapter images",
    ),
    "keys": ("rawdiff keys", "rawdiff keys train", "rawdiff keys sample.solver"),
    "list": ("rawdiff list", "rawdiff list --json --quiet"),
    "completion": (
        "rawdiff completion bash > rawdiff.bash && source rawdiff.bash",
        "rawdiff completion zsh > rawdiff.zsh && source rawdiff.zsh",
        "rawdiff completion fish > rawdiff.fish && source rawdiff.fish",
    ),
    "schema": ("rawdiff schema recipe.schema.json",),
}
"""Of each command, by its name."""


def examples(command: str) -> str:
    """What the help of a command ends with; nothing where there are none."""
    lines = EXAMPLES.get(command, ())
    return "\n  ".join(("examples:", *lines)) if lines else ""
