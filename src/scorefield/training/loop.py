"""The training loop, to be read from top to bottom.

    draw a batch and its noise from (seed, step)      so that a resumed run sees what the uninterrupted one saw
    loss of each example, mean, gradient              in the precision that measured fastest, in pieces where memory is short
    sum over processes                                every one holds the gradient of the whole batch
    refuse NaN                                        naming step, level and parameter, before anything is changed
    clip, optimiser, moving averages                  one fused call each
    now and then: report, draw samples, checkpoint

`Trainer.run` is a generator of `TrainingState`; the command, the page and a notebook all consume it, and it prints nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import ScoreModel
from scorefield.objectives.base import Terms
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import classes_of
from scorefield.shapes import flat
from scorefield.training import checkpoint
from scorefield.training.averages import Averages
from scorefield.training.checkpoint import Clock
from scorefield.training.distribution import World
from scorefield.training.held_out import HeldOut
from scorefield.training.optimisers import make
from scorefield.training.precision import autocast, fastest, of_device, scaler_of
from scorefield.training.reports import Event, Tally, TrainingState

PILOT = 64  # examples a step in the choice of precision
REPORTS = 100  # in a run whose length is a number of steps
RARELY, OFTEN = 25, 250  # steps between two reports of such a run, at least and at most
BEGINNING = 20  # steps, with which a training has at least begun
LOUD = 1.0  # a scale of the loss below which float16 is beyond help


def _seed(number: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and of a GPU.

    `torch.manual_seed` formats the whole call stack for every kind of device that is not there: 7 % of a training of small
    steps.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


class Trainer:
    """A model in training: raw weights, their moving averages, the optimiser and the clock.

    Iterate over `run()`; `model` and `average` may be looked at between steps (not changed).
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        model: ScoreModel,
        folder: Path | None,
        device: torch.device,
        world: World | None = None,
    ) -> None:
        """Hold the parts.

        Args:
            config: the whole run.
            data: raw examples; each batch is encoded when it is drawn.
            model: fresh weights.
            folder: where checkpoints go; None for none.
            device: where to compute.
            world: the processes that train together; None for this one alone.

        Raises:
            ScorefieldError: by the objective's check, a model or data that it cannot learn from; a precision that the device
                does not have; more processes than examples in a batch.
        """
        self.config, self.data, self.folder, self.device, self.world = config, data, folder, device, world or World()
        self.model = model.to(device)
        bounded = data.normaliser.low is not None or not data.train.is_floating_point()
        config.objective.check(self.model.train(), bounded=bounded, batch=config.training.batch)
        if self.world.size > 1 and (config.training.batch < self.world.size or config.objective.one_process):
            what = "persistent chains" if config.objective.one_process else f"a batch of {config.training.batch}"
            raise ScorefieldError(
                f"got {what} for {self.world.size} processes, expected something that can be divided: train in one process"
            )
        self.averages = Averages(self.model, config.training.lengths)
        self.optimiser = make(config.optimiser, self.model)
        self.scaler = scaler_of(config.training.precision, device)
        self.clock, self.messages, self.precision = Clock(), list[str](), config.training.precision
        self.pieces = config.training.accumulate
        self.tally = Tally(model.process, device)

    @property
    def average(self) -> ScoreModel:
        """The weights to use: the moving average that is shown, or the raw ones where none is kept."""
        return self.model if self.averages.shown is None else self.averages.kept[self.averages.shown]

    @cached_property
    def held_out(self) -> HeldOut:
        """The running check on examples that are never trained on."""
        told = classes_of(self.config, self.data.classes) > 0
        return HeldOut(self.data, self.config.objective, self.model.process, self.config.seed, self.device, told)

    # --- where it stands ---------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Return every tensor that training changes, by the file of a checkpoint that holds it."""
        return {
            "model": self.model.state_dict(),
            "averages": self.averages.state(),
            "optimiser": checkpoint.of_optimiser(self.optimiser),
            "loop": {"tally": self.tally.sums, "best": self.held_out.best},
        }

    def save(self) -> Path | None:
        """Write a checkpoint of this moment, where there is a folder for it; the first process alone does."""
        if self.folder is None or not self.world.first:
            return None
        facts = {"pieces": self.pieces, "scaler": self.scaler.state_dict(), "held_out": self.held_out.facts()}
        return checkpoint.save(self.folder, self.clock, self.parts(), facts)

    def resume(self) -> bool:
        """Go on from the newest checkpoint that verifies; returns whether there was one."""
        folder = self.folder if self.world.first else None
        found = self.world.told(self.world.agreed(lambda: checkpoint.newest(folder) if folder is not None else None))
        if found is None:
            return False
        checkpoint.put_back(found.parts["model"], self.model)
        self.averages.put_back(found.parts["averages"])
        checkpoint.put_back_moments(found.parts["optimiser"], self.optimiser)
        self.tally.sums = found.parts["loop"]["tally"].to(self.device)
        self.held_out.put_back(found.facts["held_out"], found.parts["loop"]["best"])
        self.pieces = found.facts["pieces"] if self.config.training.accumulate == 1 else self.config.training.accumulate
        self.scaler.load_state_dict(found.facts["scaler"])
        self.clock = found.clock
        self.messages += [*found.damaged, f"resumed at step {self.clock.step} after {self.clock.seconds:.0f} s of training"]
        return True

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

    @property
    def first_steps(self) -> int:
        """Steps with which a training begins: those of the warm-up, and some."""
        return max(BEGINNING, self.config.optimiser.warmup)

    @property
    def hardly_begun(self) -> bool:
        """Whether the time was over before the first steps were done, and before those that were asked for."""
        budget = self.config.training
        return budget.seconds is not None and self.clock.step < min(self.first_steps, budget.steps or math.inf)

    def _learning_rate(self) -> float:
        how, done = self.config.optimiser, self.fraction
        warm = min(1.0, (self.clock.step + 1) / max(how.warmup, 1))
        cold = min(1.0, (1 - done) / how.decay) if how.decay else 1.0
        return how.lr * warm * max(cold, 0.01)

    # --- one step ----------------------------------------------------------------------------------------------------

    def _batch(self, rng: SampleRng) -> tuple[Tensor, Tensor | None]:
        """Return one example for each seed, drawn with replacement, and what the model is told of it."""
        rows = (rng.uniform() * len(self.data.train)).long().cpu()  # below n: the largest of the numbers is 1 - 2^-53
        x0 = self.data.normaliser.encode(self.data.train[rows].to(self.device))
        if self.config.data.flip and self.data.kind == "image":
            mirrored = (rng.uniform() < 0.5).nonzero().flatten()
            x0[mirrored] = x0[mirrored].flip(-1)
        if not (classes := classes_of(self.config, self.data.classes)) or self.data.labels is None:
            return x0, None
        told = rng.uniform() < self.config.training.labels  # the others stand for "any class", one number above the last
        return x0, torch.where(told, self.data.labels[rows].to(self.device), classes)

    def _piece(self, some: range) -> tuple[Tensor, Terms]:
        """Add the gradient of some examples, by their numbers in the run; return their losses per coordinate, and the terms."""
        config, size = self.config, self.config.training.batch
        rng = SampleRng(some, stream=stream_of("train", config.seed), device=self.device)
        x0, cond = self._batch(rng)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), autocast(self.precision, self.device):
            # Dropout knows only the global generator, so its masks depend on how the batch is divided.
            _seed(stream_of("dropout", config.seed, some[0]) >> 1, self.device)
            terms = config.objective.terms(self.model, x0, cond, rng=rng, learned=self.model.learned)
        # The mean over coordinates, so that clipping and Adam's epsilon mean the same for vectors and large images.
        losses = terms.loss / flat(x0).shape[1]
        self.scaler.scale(losses.sum() / size).backward()  # type: ignore[no-untyped-call]
        return losses.detach(), Terms(terms.loss.detach(), terms.t)

    def _gradient(self) -> tuple[Tensor, list[Terms]]:
        """Fill in the gradient of the batch's mean loss; return the losses by level, of all processes, and this one's terms."""
        first = self.clock.step * self.config.training.batch
        share = self.world.share(self.config.training.batch)
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            tally, terms, short = self.tally.empty(), list[Terms](), False
            try:
                for i in range(self.pieces):
                    piece = share[i * len(share) // self.pieces : (i + 1) * len(share) // self.pieces]
                    if len(piece):
                        losses, term = self._piece(range(first + piece.start, first + piece.stop))
                        tally += self.tally.of(losses, term.t)
                        terms.append(term)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                short = True
            if not self.world.most(float(short))[0]:
                break
            self._take_smaller_pieces(len(share))
        self.world.add_([*(p.grad for p in self.model.parameters() if p.grad is not None), tally])
        return tally, terms

    def _take_smaller_pieces(self, share: int) -> None:
        """Halve what is computed at once: the batch, its noise and its gradient stay what they are."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.pieces >= share:
            raise ScorefieldError(
                "got too little memory for the gradient of a single example, expected room for it: choose a smaller network "
                "or smaller examples"
            )
        self.pieces = min(2 * self.pieces, share)
        self.messages.append(
            f"out of memory: a batch is now taken in {self.pieces} pieces, with the same gradient; "
            f"training.accumulate={self.pieces} begins there"
        )

    def _step(self) -> None:
        """Take one optimiser step. Raises `NotFinite` with everything unchanged."""
        self.model.train()
        tally, terms = self._gradient()
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        known, finite = math.isfinite(float(tally[:, 0].sum())), math.isfinite(float(norm))  # a NaN loss has a NaN gradient
        overflow = self.scaler.is_enabled() and known and self.scaler.get_scale() > LOUD
        if not (known and finite) and not overflow:
            raise self._refusal(terms, loss_is_finite=known)
        if finite:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.optimiser.clip or math.inf, norm)
            for group in self.optimiser.param_groups:
                group["lr"] = self._learning_rate()
            self.optimiser.step()
        if self.scaler.is_enabled():  # float16: a step that overflowed is left out, and the next one is scaled by half
            self.scaler.update()
        self.tally.sums += tally
        self.clock.step, self.clock.images = self.clock.step + 1, self.clock.images + self.config.training.batch
        self.averages.update(self.clock.step)

    def _refusal(self, terms: list[Terms], loss_is_finite: bool) -> NotFinite:
        """Name the step, the level and the tensor; the process that has the bad example knows them."""
        size, share = self.config.training.batch, self.world.share(self.config.training.batch)
        some = range(self.clock.step * size + share.start, self.clock.step * size + share.stop)
        x0, _ = self._batch(SampleRng(some, stream=stream_of("train", self.config.seed), device=self.device))
        loss = torch.cat([term.loss for term in terms])
        bad = (~loss.isfinite()).nonzero().flatten()
        level, where = "all levels", "the loss itself" if bool(x0.isfinite().all()) else "the data"
        if all(term.t is not None for term in terms):
            t = torch.cat([term.t for term in terms if term.t is not None])[bad[0] if len(bad) else loss.argmax()]
            level = f"sigma = {float(self.model.process.sigma(t)):.4g}"
        if loss_is_finite:
            named = ((name, value.grad) for name, value in self.model.named_parameters() if value.grad is not None)
            where = next((f"the gradient of {name}" for name, grad in named if not bool(grad.isfinite().all())), "the gradient")
        said = self.world.said((bool(len(bad)), level, where))
        _, level, where = next((one for one in said if one[0]), said[0])
        return NotFinite(
            f"got a NaN or infinite loss at step {self.clock.step + 1}, {level}, first in {where}, expected finite numbers: "
            "the last good state is kept; lower optimiser.lr, or set training.precision=float32"
        )

    # --- the whole run -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rehearse(self) -> None:
        """Compute one loss and change nothing, so that parts that do not fit are refused before anything is written."""
        x0, cond = self._batch(SampleRng(range(2), stream=stream_of("rehearsal"), device=self.device))
        model, rng = self.average, SampleRng(range(2), device=self.device)
        terms = self.config.objective.terms(model, x0, cond, rng=rng, learned=model.learned)
        if not bool(terms.loss.isfinite().all()):
            raise NotFinite(
                "got a NaN or infinite loss before any training, expected finite numbers: look for them in the data, or choose "
                "another parametrisation"
            )

    def _choose_precision(self) -> None:
        """Choose by the stopwatch where time ends the training, which it may cost a tenth of; else by the kind of device."""
        seconds_there_are = self.config.training.seconds
        if seconds_there_are is None:
            self.precision = self.world.told(of_device(self.device))
            self.messages.append(
                f"precision = {self.precision}: the budget is a number of steps, so the kind of device decides and no clock; "
                "training.precision chooses another"
            )
            return
        x0, cond = self._batch(SampleRng(range(self.config.training.batch), stream=stream_of("pilot"), device=self.device))
        some = None if cond is None else cond[:PILOT]
        precision, seconds = fastest(self.model, self.config.objective, x0[:PILOT], some, seconds_there_are / 10)
        self.precision = self.world.told(precision)
        pace = ", ".join(f"{name} {value * 1000:.0f} ms a step" for name, value in seconds.items())
        found = f"measured {pace}, which another run may find otherwise" if seconds else "there is no time to measure another"
        self.messages.append(f"precision = {self.precision}: {found}")

    def _losses(self, field: ScoreModel) -> Tensor:
        with autocast(self.precision, self.device):
            return self.held_out.losses(field.eval())

    def _look(self) -> dict[str, Any]:
        """Look at the held-out examples, and be warned of over-fitting; returns what goes into the log."""
        now, memorised = self._losses(self.average), self.held_out.memorised(self.average)
        self.messages += self.held_out.judge(now, self.clock.step, self.tally.mean(), memorised)
        found: dict[str, Any] = {"held_out": float(now.mean()), "lr": self.optimiser.param_groups[0]["lr"]}
        found |= {} if memorised is None else {"memorised": memorised}
        levels = self.tally.by_level()
        return found | ({"sigmas": [s for s, _ in levels], "losses": [v for _, v in levels]} if levels else {})

    def choose(self) -> dict[float, float]:
        """Show the average with the smallest held-out loss from now on; returns the loss of each, by its length."""
        losses = {length: float(self._losses(average).mean()) for length, average in self.averages.kept.items()}
        if losses:
            self.averages.shown = min(losses, key=lambda length: losses[length])
        if len(losses) > 1:
            table = ", ".join(f"{length:g} {loss:.5g}" for length, loss in losses.items())
            self.messages.append(
                f"moving average = {self.averages.shown:g}: of those kept its held-out loss is smallest ({table})"
            )
        return losses

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[TrainingState]:
        """Train until the budget is spent or `stop()`, yielding `TrainingState` (in the first process; the others yield none).

        `stop` is asked between steps, where the state is whole; an exception from outside may come in the middle of one, so
        it saves nothing and the last checkpoint stands. A checkpoint that cannot be written is a warning, for the disk may be
        mended while the training goes on, and stopping would lose what is in memory; at the end it is an error.

        Raises:
            NotFinite: a NaN; the last good state has been saved.
            ScorefieldError: the last checkpoint could not be written.
        """
        budget, mark = self.config.training, time.perf_counter()
        if self.precision == "auto":
            self._choose_precision()
        logged = saved = self.clock.seconds
        images_then, looking = self.clock.images, 0.0
        every = min(max(RARELY, budget.steps // REPORTS), OFTEN) if budget.steps and not budget.seconds else None
        shown = math.floor(self.fraction * budget.pictures + 1e-6)  # pictures whose time has come; the last is drawn at the end

        def tick() -> None:
            """Count the time since the last tick: whatever it went into, it is what a person waits."""
            nonlocal mark
            now = time.perf_counter()
            self.clock.seconds, mark = self.clock.seconds + now - mark, now

        def report(event: Event, **extra: Any) -> TrainingState:
            nonlocal logged, images_then
            span = self.clock.seconds - logged
            pace = (self.clock.images - images_then) / span if span > 0 else 0.0
            left = self.clock.seconds * (1 / self.fraction - 1) if self.fraction > 0 else math.nan
            mean, told = self.tally.mean(), tuple(self.messages)
            if event == "log":
                logged, images_then, self.tally.sums = self.clock.seconds, self.clock.images, self.tally.empty()
            self.messages.clear()
            at = (self.clock.step, self.clock.seconds, self.clock.images)
            return TrainingState(event, *at, self.fraction, mean, pace, left, extra, told)

        def keep(last: bool = False) -> bool:
            """Write a checkpoint; where that fails, say so and go on, if there is anything to go on with."""
            try:
                self.save()
            except OSError as error:
                if last:
                    raise ScorefieldError(
                        f"got an error of the system at the last checkpoint, of step {self.clock.step} ({error}), expected to "
                        "write there: mend it and go on from the checkpoint before, with --resume"
                    ) from None
                self.messages.append(f"no checkpoint at step {self.clock.step} ({error}): training goes on and will try again")
                return False
            return True

        if self.world.first:
            yield report("ready")
        try:
            while True:
                tick()
                asked, seconds = self.world.most(float(stop()), self.clock.seconds if self.world.first else 0.0)
                self.clock.seconds = seconds  # of the first process: the ranks must not disagree about the end
                if asked or (self.fraction >= 1 and self.clock.step):  # a budget of nearly nothing buys one step
                    break
                self._step()
                if not self.world.first:
                    self.messages.clear()
                    continue
                tick()
                due = self.clock.step % every == 0 if every else self.clock.seconds - logged >= max(2.0, 20 * looking)
                if due or self.fraction >= 1:  # by time, at most a twentieth of it goes into looking
                    start = time.perf_counter()
                    found = self._look()
                    looking = time.perf_counter() - start
                    yield report("log", **found)
                elif self.messages:
                    yield report("warning")
                if shown < (come := math.floor(self.fraction * budget.pictures + 1e-6)) < budget.pictures:
                    shown = come
                    yield report("picture")
                if self.clock.seconds - saved >= budget.checkpoint_seconds and self.fraction < 1:
                    saved = self.clock.seconds
                    yield report("checkpoint" if keep() else "warning")
        except NotFinite:
            if self.is_finite():
                keep()
            raise
        keep(last=True)
        if not asked and self.hardly_begun:
            self.messages.append(
                f"the time was over after {self.clock.step} step{'s' * (self.clock.step > 1)}, fewer than the "
                f"{self.first_steps} with which a training begins: next to nothing is learned; give it more time"
            )
        if self.world.first:
            yield report("stopped" if asked else "done", **({} if asked else {"averages": self.choose()}))


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error is a lack of memory: PyTorch has a class of its own for it on GPUs, and none on CPUs."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
