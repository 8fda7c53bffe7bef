"""How fast a recipe trains here and where the time goes: the way through all measurements."""

from __future__ import annotations

import math
import os
import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rawdiff.assemble import Data, info_without_data, make_network, make_patcher, open_data
from rawdiff.bench.budget import AT_LEAST, Budget, Say
from rawdiff.bench.chip import look_at_chip, memory_for, precision_name, require_memory
from rawdiff.bench.measured import Measured, Reading, Saving, Sizes, Step, Variant
from rawdiff.bench.profile import write_profile
from rawdiff.bench.reading import loader_rate, wait_beside_steps
from rawdiff.bench.samples import Samples
from rawdiff.bench.saving import state_bytes, time_log, time_saving, why_no_saving
from rawdiff.bench.search import Search
from rawdiff.bench.stand import describe, open_loop, scratch_folder, with_sizes, with_train
from rawdiff.bench.steps import ONCE_A_STEP, in_whole_step, time_parts, time_steps
from rawdiff.bench.synthetic import Synthetic
from rawdiff.bench.variants import try_variants
from rawdiff.data.loading import Subset
from rawdiff.errors import UserError, WrongDataError
from rawdiff.files import require_writable
from rawdiff.parallel.batch import share_batch
from rawdiff.parallel.processes import Processes, join_processes
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.train.compile_check import compiling
from rawdiff.train.cost import measure_cost
from rawdiff.train.heap import keep_freed_memory
from rawdiff.train.loop import Loop
from rawdiff.train.setup import require_startable
from rawdiff.train.stopping import stop_at_once

# Until these shares of the time are gone, after those of reading a few samples and of `search.py`:
WHOLE, PARTS, READING, BESIDE, SAVING = 0.35, 0.45, 0.53, 0.6, 0.65
AS_STORED = {"augment", "render"}  # what is done to samples that are real
MARGIN = 1.2  # of reading over computing, in the number of workers that is tried


def bench(
    recipe: Recipe,
    *,
    seconds: float = 60.0,
    synthetic: bool = False,
    profile: Path | None = None,
    say: Say = lambda text: None,
) -> Measured:
    """What one process measures in about so many seconds; nothing stays behind.

    `synthetic`: random samples of the data's shape, which need not be there. `profile`: where to
    write a trace. `say` hears what is done now. Raises UserError for all that the user can mend.
    """
    Budget(seconds)
    if profile is not None:
        require_writable(profile)
    device = choose_device(recipe.train.device)
    if device.type == "cpu":
        keep_freed_memory()
    with stop_at_once(), join_processes(on_gpu=device.type == "cuda") as processes:
        require_startable(recipe, device, processes)
        budget, say = Budget(seconds, processes), processes.only_first(say)
        try:
            with compiling():
                return _Bench(recipe, device, processes, budget, say).run(synthetic, profile)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"The memory of the GPU does not suffice for a step: {error!s:.100} Give "
                "`parallel.activation_checkpoint=true`, fewer averages, a smaller `model` or more "
                "GPUs; `rawdiff check RECIPE --world-size N` plans them."
            ) from error


@dataclass(frozen=True)
class _Bench:
    recipe: Recipe
    device: torch.device
    processes: Processes
    budget: Budget
    say: Say

    def run(self, synthetic: bool, profile: Path | None) -> Measured:
        recipe, device, processes = self.recipe, self.device, self.processes
        self.say("reading samples")
        with processes.first_before_others():
            data = _open(recipe, synthetic)
        shares = share_batch(
            recipe.train.batch_size, recipe.train.micro_batch_size, processes.count
        )
        samples = Samples.read(
            data.train,
            at_most=shares.of_process,
            patience=self.budget.seconds / 10,
            pins=device.type == "cuda",
        )
        statistics = processes.from_first(lambda: samples.statistics(recipe.standardization))
        patcher = make_patcher(recipe, data.train.info, statistics, torch.device("cpu"))
        network = make_network(recipe, data.train.info, patcher)
        chip = look_at_chip(recipe, device)
        memory = None if chip.is_gpu else memory_for(recipe, network)
        if memory is not None:
            require_memory(memory, chip)
        train_flops = measure_cost(network).train_flops
        self.say("building the network")
        with scratch_folder(recipe.run_dir, processes) as folder:
            processes.from_first(lambda: describe(folder, recipe, data, statistics))
            with open_loop(recipe, data, statistics, device, processes, folder) as loop:
                search = Search(loop, samples, chip, self.budget, self.say, train_flops, memory)
                sizes = search.find(shares)
                loop, sizes, step = self.steps(loop, samples, sizes)
                reading = None
                if synthetic:
                    made = {name: step.parts[name] for name in step.parts.keys() - AS_STORED}
                    step = replace(step, parts=made)
                else:
                    reading, step = self.reading(loop, samples, sizes, step)
                saving, no_saving = self.saving(loop, samples, sizes, step)
                log_seconds = time_log(loop)
                if profile is not None:
                    self.say("writing a profile")
                    batches = samples.batches(sizes.used)
                    write_profile(with_sizes(loop, sizes.used, 1), batches, profile)
                peak_bytes = max(processes.gather(_peak_bytes(device)))
                variants: tuple[Variant, ...] = ()
                if processes.count == 1:
                    self.say("trying other settings")
                    variants = tuple(try_variants(loop, samples, sizes.used, self.budget))
                return Measured(
                    chip=chip,
                    precision=precision_name(recipe, device),
                    num_processes=processes.count,
                    num_steps=recipe.train.num_steps,
                    train_flops=train_flops,
                    sizes=sizes,
                    step=step,
                    peak_bytes=peak_bytes,
                    log_seconds=log_seconds,
                    log_every=recipe.train.log_every,
                    reading=reading,
                    saving=saving,
                    no_saving=no_saving,
                    variants=variants,
                    synthetic=synthetic,
                )

    def steps(self, loop: Loop, samples: Samples, sizes: Sizes) -> tuple[Loop, Sizes, Step]:
        """Whole steps of the recipe, or of as many of their micro-batches as there is time for."""
        self.say("timing steps")
        rate = next(one.samples_per_second for one in sizes.tried if one.size == sizes.used)
        assert rate is not None
        num_all, micro_seconds = sizes.num_micro_batches, sizes.used / rate
        room = self.budget.left(WHOLE) / (AT_LEAST * micro_seconds)
        num_timed = self.processes.from_first(lambda: min(max(int(room), 1), num_all))
        loop = with_sizes(loop, sizes.used, num_timed)
        batches = samples.batches(sizes.used * num_timed)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        warm = time_steps(loop, batches, 1)
        timed = time_steps(loop, batches, self.budget.num_steps(warm, WHOLE))
        self.say("timing the parts of a step")
        num_steps = self.budget.num_steps(warm, PARTS)
        parts = in_whole_step(time_parts(loop, batches, num_steps), num_timed, num_all)
        once = min(sum(parts[name] for name in ONCE_A_STEP if name in parts), timed)
        seconds = (timed - once) * num_all / num_timed + once
        del parts["data"]  # these batches were there
        return loop, replace(sizes, num_timed=num_timed), Step(seconds, parts)

    def reading(
        self, loop: Loop, samples: Samples, sizes: Sizes, step: Step
    ) -> tuple[Reading, Step]:
        """The loader by itself, and how long a step waits for it."""
        self.say("reading samples")
        train, own = samples.train, self.recipe.train.num_workers
        num_cpus = max((os.cpu_count() or 1) // self.processes.count_here, 1)
        rates: dict[int, float] = {}

        def measure(num_workers: int) -> None:
            seconds = max(self.budget.left(READING) / 3, 0.2)
            rates[num_workers] = loader_rate(
                train, sizes.share, num_workers, seconds, samples.seconds
            )

        for num_workers in sorted({0, own}):
            measure(num_workers)
        needed = sizes.share / step.seconds
        more = min(max(math.ceil(MARGIN * needed / rates[0]), 1), num_cpus)
        lacks = own == 0 or rates[own] < needed
        if self.processes.from_first(lambda: lacks and more > own and more not in rates):
            measure(self.processes.from_first(lambda: more))
        timed = with_train(loop, num_workers=own)
        scale = sizes.num_micro_batches / sizes.num_timed
        both = step.seconds / scale + sizes.used * sizes.num_timed / rates[own]
        wait = scale * wait_beside_steps(timed, self.budget.num_steps(both, BESIDE))
        is_packed = train.dataset is not self.recipe.data
        reading = Reading(rates, own, is_packed, num_cpus)
        return reading, replace(step, parts={"data": wait, **step.parts}, wait=wait)

    def saving(
        self, loop: Loop, samples: Samples, sizes: Sizes, step: Step
    ) -> tuple[Saving | None, str]:
        """A checkpoint, or why none was written."""
        self.say("saving a checkpoint")
        num_bytes = state_bytes(loop)
        if problem := why_no_saving(loop, num_bytes):
            return None, problem
        batches = samples.batches(sizes.used * sizes.num_timed)
        patience = self.budget.left(SAVING)
        return time_saving(loop, batches, num_bytes, step.whole, patience), ""


def _open(recipe: Recipe, synthetic: bool) -> Data:
    """The recipe's data, or random ones that look like them."""
    if synthetic:
        data = Synthetic.like(info_without_data(recipe))
        return Data(Subset(data, range(len(data))), None)
    try:
        return open_data(recipe)
    except WrongDataError:
        raise
    except UserError as error:
        raise UserError(
            f"{error}\nWithout the data, `rawdiff bench RECIPE --synthetic` measures all but "
            "reading, with random samples of the same shape."
        ) from error


def _peak_bytes(device: torch.device) -> int:
    """Of the GPU since the search; of a CPU the most that the process ever had."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
