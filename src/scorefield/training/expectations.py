"""What to expect of a training, and what to do about it: the sentences of a plan, and the warnings that a run keeps.

Each function answers one question with its sentences; with none where there is nothing to say.
"""

from __future__ import annotations

import math

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.data.doctor import Findings
from scorefield.durations import duration, flag_of
from scorefield.noise_label import unvisited
from scorefield.runs import LEAST_HELD_OUT
from scorefield.training.pilot import Pilot

LARGE = 64  # pixels a side, above which a CPU takes hours
FEW = 5_000  # examples, below which a network of usual size memorises them if it sees them often
HANDFUL = 200  # examples, below which it does so in minutes
OFTEN = 200  # epochs
BEGUN = 100_000  # images seen, of 28 x 28 pixels, from which on samples of a small U-Net begin to look right
SLOW = 0.1  # share of a step for loading that is worth a sentence
PATIENCE = 60.0  # seconds for 64 samples that are worth a sentence
QUICK = 20  # steps of a quick sampler


def too_few(data: Dataset) -> list[str]:
    """Say what the number of held-out examples will not allow later."""
    held, total = len(data.held_out), len(data.train) + len(data.held_out)
    if held >= LEAST_HELD_OUT:
        return []
    share = math.ceil(100 * LEAST_HELD_OUT / total) / 100
    advice = (
        f"--set data.held_out={share:g} holds out enough"
        if total >= 2 * LEAST_HELD_OUT
        else f"with {total} in all, add more data"
    )
    held_out = "1 example is" if held == 1 else f"{held} examples are"
    return [f"Only {held_out} held out, but scorefield evaluate needs {LEAST_HELD_OUT}: {advice}."]


def unvisited_levels(config: RunConfig) -> list[str]:
    """Say that a network is trained on a few noise levels, and is given them in a form that means nothing in between."""
    label, process, times = config.parametrisation.noise_label, config.process, config.objective.visited(config.process)
    if times is None or (factor := unvisited(label, process, times)) == 1:
        return []
    seen = "one noise level alone" if len(times) == 1 else f"{len(times)} noise levels alone"
    advice = f"set parametrisation.noise_label={len(times)}, or a" if len(times) > 1 else "set a"
    return [
        f"The network learns {seen} and nothing of those between, up to a factor of {factor:.3g} away, where samplers on other "
        f"ladders will ask it: {advice} noise distribution such as objective.noise_distribution=uniform."
    ]


def memory(data: Dataset, pilot: Pilot) -> list[str]:
    """Say that the training needs more memory than is free."""
    if (needed := pilot.memory).fits:
        return []
    need, have = needed.total / 2**20, needed.available / 2**20
    batch = f"--set training.batch={max(1, pilot.chosen.batch // 4)}"
    smaller = {"image": ", or a smaller --size", "volume": ", or give smaller volumes"}.get(data.kind, "")
    return [f"It will not fit: it needs {need:,.0f} MiB and {have:,.0f} MiB are free; add {batch}{smaller}."]


def repetition(data: Dataset, findings: Findings) -> list[str]:
    """Say that examples repeat each other, among themselves or in the held-out part."""
    said, n = list[str](), len(data.train)
    if findings.leaks:
        said.append(
            f"{findings.leaks:,} of {len(data.held_out):,} held-out examples are copies of training examples: the held-out "
            "loss will look better than it is; remove them."
        )
    if findings.copies > n // 100:
        said.append(
            f"{findings.copies / n:.0%} of the training examples repeat another one: they count twice; remove them unless "
            "they are meant."
        )
    return said


def enough_images(data: Dataset, images: int, pilot: Pilot) -> list[str]:
    """Say that an image network sees fewer images than samples need before they begin to look right."""
    if data.kind != "image":
        return []
    side, needed = max(data.shape[1:]), round(BEGUN * min(1, math.prod(data.shape) / 784))
    wait = needed / pilot.chosen.images_per_second
    if side > LARGE and wait > 3600 and pilot.device.startswith("cpu"):
        return [
            f"{data.shape[1]} x {data.shape[2]} pixels are many for this machine: {duration(wait)} until {needed:,} images are "
            f"seen, about where samples begin to look right; --size {LARGE} costs about 1/{(side / LARGE) ** 2:.0f} of that."
        ]
    if images >= needed:
        return []
    smaller = f"; --size {side // 2} would need a quarter." if side >= LARGE else "."
    return [
        f"{images:,} images seen are few: expect rough shapes. --time {flag_of(wait)} would show it {needed:,}, about "
        f"where samples begin to look right{smaller}"
    ]


def memorisation(data: Dataset, epochs: float) -> list[str]:
    """Say how often each example is seen, and whether that is so often that the network memorises it."""
    n, few = len(data.train), f"{len(data.train):,} examples of {math.prod(data.shape):,} dimensions are few"
    if n < HANDFUL:
        return [f"{few}: it will memorise them, and samples will be copies; several thousand are needed."]
    if n < FEW and epochs > OFTEN:
        remedy = "add examples, or --flip" if data.kind == "image" else "add examples"
        return [
            f"{few} for {epochs:,.0f} passes: it will memorise some of them; {remedy}, or stop when the held-out loss rises."
        ]
    if epochs < 1:
        return [f"There is time for {epochs:.0%} of the examples, once: more time helps, more data do not."]
    return [f"Each example is seen {epochs:,.1f} times; the held-out loss will tell if that is too often."]


def novelty(findings: Findings) -> list[str]:
    """Say how near a new example lies to the training examples, which samples can be compared with."""
    return [
        f"A new example lies {findings.nearest_held_out:.3g} a coordinate from the nearest training example (these from each "
        f"other: {findings.nearest_training:.3g}): samples that lie much nearer are copies."
    ]


def sampling_time(seconds: float, pilot: Pilot) -> list[str]:
    """Say that 64 samples by the run's own sampler take long."""
    if seconds <= PATIENCE:
        return []
    quick = duration(pilot.evaluation * QUICK * 2)
    return [
        f"64 samples take {duration(seconds)} with the run's own sampler; --sampler heun --steps {QUICK} takes about {quick}."
    ]


def speed(pilot: Pilot) -> list[str]:
    """Say what would make a training step faster."""
    said = list[str]()
    if better := pilot.better_batch:
        gain = better.images_per_second / pilot.chosen.images_per_second - 1
        said.append(f"--set training.batch={better.batch} would see {gain:.0%} more examples a second.")
    if pilot.loading > SLOW:
        said.append(f"{pilot.loading:.0%} of a step is spent on loading examples: keep them on a faster disk, or in memory.")
    return said
