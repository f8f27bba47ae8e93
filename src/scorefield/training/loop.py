"""The training loop, to be read from top to bottom.

    draw a batch and its noise from (seed, step)      so that a resumed run sees what the uninterrupted one saw
    loss of each example, mean, gradient              in the precision that measured fastest
    refuse NaN                                        naming step, level and parameter, before anything is changed
    clip, AdamW, moving average                       one fused call each
    now and then: report, draw samples, checkpoint

`train` is a generator of `Progress`; the command, the page and a notebook all consume it, and it prints nothing.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.errors import NotFinite
from scorefield.field import ScoreModel
from scorefield.levels import thin
from scorefield.objectives.base import Terms
from scorefield.randomness import Noise, stream_of
from scorefield.shapes import flat
from scorefield.training import checkpoint
from scorefield.training.checkpoint import Clock
from scorefield.training.precision import autocast, fastest

Event = Literal["ready", "log", "picture", "checkpoint", "done", "stopped"]
PILOT = 64  # examples a step in the choice of precision
HELD_OUT = 512  # examples of the held-out part in the running check; each has the same noise every time


@dataclass(frozen=True)
class Progress:
    """What the loop reports.

    Attributes:
        event: "ready" once before the first step, "log", "picture" (time to draw samples), "checkpoint", and at the end "done",
            or "stopped" if it was asked to.
        step, seconds, images: how far the run is.
        fraction: of the budget, 0 to 1.
        loss: per coordinate, averaged since the last report.
        images_per_second: since the last report.
        seconds_left: by the budget, or by the speed so far.
        extra: held-out loss, learning rate, messages.
    """

    event: Event
    step: int
    seconds: float
    images: int
    fraction: float
    loss: float
    images_per_second: float
    seconds_left: float
    extra: dict[str, Any] = field(default_factory=dict)


class Trainer:
    """A model in training: raw weights, their moving average, the optimiser and the clock.

    Iterate over `run()`; `model` and `average` may be looked at between steps (not changed).
    """

    def __init__(self, config: RunConfig, data: Dataset, model: ScoreModel, folder: Path, device: torch.device) -> None:
        """Hold the parts.

        Args:
            config: the whole run.
            data: raw examples; each batch is encoded when it is drawn.
            model: fresh weights.
            folder: where checkpoints go.
            device: where to compute.

        Raises:
            ScorefieldError: by the objective's check, a model or data that it cannot learn from.
        """
        self.config, self.data, self.folder, self.device = config, data, folder, device
        self.model = model.to(device)
        bounded = data.affine.low is not None or not data.train.is_floating_point()
        config.objective.check(self.model.train(), bounded=bounded, batch=config.training.batch)
        keeps_average = config.training.ema > 0
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False) if keeps_average else self.model
        how = config.optimiser
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=how.lr, betas=how.betas, weight_decay=how.weight_decay, fused=True
        )
        self.clock, self.messages, self.precision = Clock(), list[str](), config.training.precision

    def resume(self) -> bool:
        """Go on from the newest checkpoint that verifies; returns whether there was one."""
        found = checkpoint.newest(self.folder)
        if found is None:
            return False
        self.clock, tensors, damaged = found
        checkpoint.put_back(tensors, self.model, self._own_average, self.optimiser)
        self.messages += [*damaged, f"resumed at step {self.clock.step} after {self.clock.seconds:.0f} s of training"]
        return True

    @property
    def _own_average(self) -> ScoreModel | None:
        return self.average if self.average is not self.model else None

    @torch.no_grad()
    def rehearse(self) -> None:
        """Compute one loss and change nothing, so that parts that do not fit are refused before anything is written."""
        x0, cond = self._batch(Noise(range(2), stream=stream_of("rehearsal"), device=self.device))
        terms = self.config.objective.terms(self.average, x0, cond, noise=Noise(range(2), device=self.device))
        if not bool(terms.loss.isfinite().all()):
            raise self._refuse(terms, "the loss itself (before any training)")

    def save(self) -> Path:
        """Write a checkpoint of this moment."""
        return checkpoint.save(self.folder, self.clock, checkpoint.state_of(self.model, self._own_average, self.optimiser))

    def is_finite(self) -> bool:
        """Whether the weights are numbers: an overflow inside the optimiser shows only at the next step's loss."""
        return all(bool(value.isfinite().all()) for value in self.model.state_dict().values())

    @property
    def fraction(self) -> float:
        """Share of the budget that is spent, by steps or by seconds, whichever is further."""
        budget = self.config.training
        by_steps = self.clock.step / budget.steps if budget.steps else 0.0
        by_time = self.clock.seconds / budget.seconds if budget.seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def _learning_rate(self) -> float:
        how, done = self.config.optimiser, self.fraction
        warm = min(1.0, (self.clock.step + 1) / max(how.warmup, 1))
        cold = min(1.0, (1 - done) / how.decay) if how.decay else 1.0
        return how.lr * warm * max(cold, 0.01)

    def _batch(self, noise: Noise) -> tuple[Tensor, Tensor | None]:
        rows = noise.choose(torch.ones(len(self.data.train))).cpu()
        return self.data.x0(rows).to(self.device), None

    def _refuse(self, terms: Terms, parameter: str) -> NotFinite:
        bad = (~terms.loss.isfinite()).nonzero().flatten()
        level = "all levels"
        if terms.t is not None:
            t = terms.t[bad[0]] if len(bad) else terms.t[terms.loss.argmax()]
            level = f"sigma = {float(self.model.process.sigma(t)):.4g}"
        return NotFinite(
            f"got a NaN or infinite loss at step {self.clock.step + 1}, {level}, first in {parameter}, expected finite "
            "numbers: the last good state is kept; lower optimiser.lr, or set training.precision=float32"
        )

    def _first_bad_parameter(self) -> str:
        for name, value in self.model.named_parameters():
            if value.grad is not None and not bool(value.grad.isfinite().all()):
                return f"the gradient of {name}"
        return "the loss itself (no gradient yet)"

    def _step(self) -> float:
        """Take one optimiser step; returns the mean loss per coordinate. Raises `NotFinite` with everything unchanged."""
        config, step = self.config, self.clock.step
        size = config.training.batch
        first = step * size
        noise = Noise(range(first, first + size), stream=stream_of("train", config.seed), device=self.device)
        x0, cond = self._batch(noise)
        self.model.train()
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), autocast(self.precision, self.device):
            torch.manual_seed(stream_of("dropout", config.seed, step) >> 1)  # dropout knows only the global generator
            terms = config.objective.terms(self.model, x0, cond, noise=noise)
        # The mean over coordinates, so that clipping and Adam's epsilon mean the same for vectors and large images.
        loss = terms.loss.mean() / flat(x0).shape[1]
        value = float(loss.detach())
        self.optimiser.zero_grad(set_to_none=True)
        if value != value or value == float("inf"):
            raise self._refuse(terms, self._first_bad_parameter())
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.optimiser.clip or float("inf"))
        if not bool(norm.isfinite()):
            raise self._refuse(terms, self._first_bad_parameter())
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self.optimiser.step()
        self.clock.step, self.clock.images = step + 1, self.clock.images + size
        self._update_average()
        return value

    @torch.no_grad()
    def _update_average(self) -> None:
        """average <- average + (1 - beta)·(weights - average), with beta warming up from 0.1; buffers are copied."""
        if self._own_average is None:
            return
        beta = min(self.config.training.ema, (1 + self.clock.step) / (10 + self.clock.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - beta)
        for kept, new in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(new)

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Return the averaged weights' loss per coordinate on held-out examples, with noise that never changes."""
        rows = thin(len(self.data.held_out), HELD_OUT)  # not the first: images in class folders come sorted by class
        some = self.data.affine.encode(self.data.held_out[rows]).to(self.device)
        noise = Noise(range(len(some)), stream=stream_of("held out", self.config.seed), device=self.device)
        self.average.eval()
        with autocast(self.precision, self.device):
            loss = self.config.objective(self.average, some, noise=noise)
        return float(loss.mean()) / flat(some).shape[1]

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Train until the budget is spent or `stop()`, yielding `Progress`.

        `stop` is asked between steps, where the state is whole; an exception from outside may come in the middle of one, so
        it saves nothing and the last checkpoint stands.
        """
        budget = self.config.training
        if self.precision == "auto":
            x0, cond = self._batch(Noise(range(budget.batch), stream=stream_of("pilot"), device=self.device))
            self.precision, seconds = fastest(self.model, self.config.objective, x0[:PILOT], cond)
            pace = ", ".join(f"{name} {value * 1000:.0f} ms a step" for name, value in seconds.items())
            self.messages.append(f"precision = {self.precision}: measured {pace}")
        losses: list[float] = []
        logged = saved = self.clock.seconds
        images_then, looking = self.clock.images, 0.0
        pictures = {round((i + 1) / budget.pictures, 6) for i in range(budget.pictures - 1)} if budget.pictures else set()
        pictures = {share for share in pictures if share > self.fraction}

        def report(event: Event, **extra: Any) -> Progress:
            nonlocal logged, images_then
            span = self.clock.seconds - logged
            pace = (self.clock.images - images_then) / span if span > 0 else 0.0
            left = self.clock.seconds * (1 / self.fraction - 1) if self.fraction > 0 else float("nan")
            mean = sum(losses) / len(losses) if losses else float("nan")
            if event == "log":
                logged, images_then = self.clock.seconds, self.clock.images
                losses.clear()
            return Progress(
                event, self.clock.step, self.clock.seconds, self.clock.images, self.fraction, mean, pace, left, extra
            )

        yield report("ready", messages=tuple(self.messages))
        try:
            while self.fraction < 1:
                if stop():
                    self.save()
                    yield report("stopped")
                    return
                start = time.perf_counter()
                losses.append(self._step())
                self.clock.seconds += time.perf_counter() - start
                # A look at the held-out part may cost a step or more: at most a twentieth of the time goes there.
                if self.clock.seconds - logged >= max(2, 20 * looking) or self.fraction >= 1:
                    start = time.perf_counter()
                    held_out = self.held_out_loss()
                    looking = time.perf_counter() - start
                    self.clock.seconds += looking
                    yield report("log", held_out=held_out, lr=self.optimiser.param_groups[0]["lr"])
                if any(share <= self.fraction for share in pictures):
                    pictures = {share for share in pictures if share > self.fraction}
                    start = time.perf_counter()
                    yield report("picture")
                    self.clock.seconds += time.perf_counter() - start  # drawing counts: the budget is what a person waits
                if self.clock.seconds - saved >= budget.checkpoint_seconds and self.fraction < 1:
                    saved = self.clock.seconds
                    self.save()
                    yield report("checkpoint")
        except NotFinite:
            if self.is_finite():
                self.save()
            raise
        self.save()
        yield report("done")
