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
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.distribution import World
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import Field, ScoreModel
from scorefield.objectives.base import Terms
from scorefield.objectives.given import with_given
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import classes_of
from scorefield.training import checkpoint
from scorefield.training.averages import Averages
from scorefield.training.batches import draw, seed_generators
from scorefield.training.checkpoint import Clock
from scorefield.training.failures import is_out_of_memory, not_finite, refuse_uncounted, too_short
from scorefield.training.held_out import HeldOut
from scorefield.training.optimisers import learning_rate, make
from scorefield.training.precision import autocast, by_device, by_stopwatch, scaler_of
from scorefield.training.reports import Event, Tally, TrainingState
from scorefield.training.sitting import Sitting

PILOT = 64  # examples a step in the choice of precision
BEGINNING = 20  # steps, with which a training has at least begun
LOUD = 1.0  # a scale of the loss below which float16 is beyond help


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
        refuse_uncounted(self.model, config, holed=data.normaliser.holes is not None)
        if self.world.size > 1 and (config.training.batch < self.world.size or config.objective.one_process):
            what = "persistent chains" if config.objective.one_process else f"a batch of {config.training.batch}"
            raise ScorefieldError(
                f"got {what} for {self.world.size} processes, expected something that can be divided: train in one process"
            )
        self.groups, self.averages = data.groups, Averages(self.model, config.training.lengths)
        self.optimiser, self.scaler = make(config.optimiser, self.model), scaler_of(config.training.precision, device)
        self.clock, self.messages, self.precision = Clock(), list[str](), config.training.precision
        self.pieces = config.training.accumulate
        self.tally, self.reserved = Tally(model.process, device), 0.0  # seconds of the budget for what is not a step
        self._checked = -1, math.nan  # step of the last check, and the held-out loss of the average that is shown

    @property
    def average(self) -> ScoreModel:
        """The weights to use: the moving average that is shown, or the raw ones where none is kept."""
        return self.model if self.averages.shown is None else self.averages.kept[self.averages.shown]

    @cached_property
    def held_out(self) -> HeldOut:
        """The running check on examples that are never trained on."""
        labelled = classes_of(self.config, self.data.classes) > 0
        return HeldOut(self.data, self.config.objective, self.model.process, self.config.seed, self.device, labelled)

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
        """Write a checkpoint of where it stands, if there is a folder for it; the first process alone does."""
        if self.folder is None or not self.world.first:
            return None
        facts = {"pieces": self.pieces, "scaler": self.scaler.state_dict(), "held_out": self.held_out.state()}
        return checkpoint.save(self.folder, self.clock, self.parts(), facts)

    def resume(self) -> bool:
        """Go on from the newest checkpoint that verifies; returns whether there was one."""
        folder = self.folder if self.world.first else None
        found = self.world.broadcast(self.world.agreed(lambda: checkpoint.newest(folder) if folder is not None else None))
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
        by_time = self.clock.seconds / (budget.seconds - self.reserved) if budget.seconds else 0.0
        return min(1.0, max(self.clock.step / budget.steps if budget.steps else 0.0, by_time))

    @property
    def first_steps(self) -> int:
        """Steps with which a training begins: those of the warm-up, but at least a few."""
        return max(BEGINNING, self.config.optimiser.warmup)

    @property
    def hardly_begun(self) -> bool:
        """Whether the time was over before the first steps were done, and before those that were asked for."""
        budget = self.config.training
        return budget.seconds is not None and self.clock.step < min(self.first_steps, budget.steps or math.inf)

    # --- one step ----------------------------------------------------------------------------------------------------

    def _batch(self, rng: SampleRng) -> tuple[Tensor, Tensor | None]:
        """Return one example for each seed, and the class that the model is given for each, if any."""
        return draw(self.config, self.data, rng, self.device)

    def _piece(self, rows: range) -> tuple[Tensor, Terms]:
        """Add the gradient of the examples of these numbers in the run; return their losses per coordinate, and the terms."""
        config, size = self.config, self.config.training.batch
        rng = SampleRng(rows, stream=stream_of("train", config.seed), device=self.device)
        x0, cond = self._batch(rng)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), autocast(self.precision, self.device):
            # Dropout knows only the global generator, so its masks depend on how the batch is divided.
            seed_generators(stream_of("dropout", config.seed, rows[0]) >> 1, self.device)
            field: Field = self.model
            if config.training.given:
                field, x0 = with_given(self.model, x0, self.groups, config.training.given, rng)
            terms = config.objective.of_known(field, x0, cond, rng=rng, learned=self.model.learned)
        # The mean over coordinates, so that clipping and Adam's epsilon mean the same for vectors and large images.
        losses = terms.loss / self.data.cells
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
                if not is_out_of_memory(error):
                    raise
                short = True
            if not self.world.maximum(float(short))[0]:
                break
            self._take_smaller_pieces(len(share))
        self.world.sum_([*(p.grad for p in self.model.parameters() if p.grad is not None), tally])
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
        loss_is_finite, finite = (
            math.isfinite(float(tally[:, 0].sum())),
            math.isfinite(float(norm)),
        )  # a NaN loss has a NaN norm
        overflow = self.scaler.is_enabled() and loss_is_finite and self.scaler.get_scale() > LOUD
        if not (loss_is_finite and finite) and not overflow:
            raise self._refusal(terms, loss_is_finite)
        if finite:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.optimiser.clip or math.inf, norm)
            lr = learning_rate(self.config.optimiser, self.clock.step, self.fraction)
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            self.optimiser.step()
        if self.scaler.is_enabled():  # float16: a step that overflowed is left out, and the next one is scaled by half
            self.scaler.update()
        self.tally.sums += tally
        self.clock.step, self.clock.images = self.clock.step + 1, self.clock.images + self.config.training.batch
        self.averages.update(self.clock.step, self.fraction)

    def _refusal(self, terms: list[Terms], loss_is_finite: bool) -> NotFinite:
        """Name the step, the level and the tensor; the process that has the bad example knows them."""
        size, share = self.config.training.batch, self.world.share(self.config.training.batch)
        rows = range(self.clock.step * size + share.start, self.clock.step * size + share.stop)
        x0, _ = self._batch(SampleRng(rows, stream=stream_of("train", self.config.seed), device=self.device))
        found = self.world.gather(not_finite(self.model, terms, x0, loss_is_finite))
        _, level, where = next((one for one in found if one[0]), found[0])
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
        terms = self.config.objective.of_known(model, x0, cond, rng=rng, learned=model.learned)
        if not bool(terms.loss.isfinite().all()):
            raise NotFinite(
                "got a NaN or infinite loss before any training, expected finite numbers: look for them in the data, or choose "
                "another parametrisation"
            )

    def _choose_precision(self) -> None:
        """Choose by the stopwatch where time ends the training, which it may cost a tenth of; else by the kind of device."""
        seconds = self.config.training.seconds
        if seconds is None:
            chosen = by_device(self.device)
        else:
            x0, cond = self._batch(SampleRng(range(self.config.training.batch), stream=stream_of("pilot"), device=self.device))
            few = None if cond is None else cond[:PILOT]
            chosen = by_stopwatch(self.model, self.config.objective, x0[:PILOT], few, seconds / 10)
        self.precision, reason = self.world.broadcast(chosen)
        self.messages.append(f"precision = {self.precision}: {reason}")

    def _losses(self, field: ScoreModel) -> Tensor:
        with autocast(self.precision, self.device):
            return self.held_out.losses(field.eval())

    def _check(self) -> dict[str, Any]:
        """Measure the held-out examples, and warn of over-fitting; returns what goes into the log."""
        now, memorised = self._losses(self.average), self.held_out.memorised(self.average)
        self._checked = self.clock.step, float(now.mean())
        self.messages += self.held_out.judge(now, self.clock.step, self.tally.mean(), memorised)
        found: dict[str, Any] = {"held_out": float(now.mean()), "lr": self.optimiser.param_groups[0]["lr"]}
        found |= {"threads": torch.get_num_threads()} if self.device.type == "cpu" else {}
        levels, found = self.tally.by_level(), found | ({} if memorised is None else {"memorised": memorised})
        return found | ({"sigmas": [s for s, _ in levels], "losses": [v for _, v in levels]} if levels else {})

    def choose(self) -> dict[float, float]:
        """Show the average with the smallest held-out loss from now on; returns the loss of each, by its length."""
        kept, (step, loss) = self.averages.kept, self._checked
        known = {self.averages.shown: loss} if step == self.clock.step else {}
        losses = {one: known[one] if one in known else float(self._losses(kept[one]).mean()) for one in kept}
        self.messages += self.averages.show_best(losses)
        return losses

    def run(self, stop: Callable[[], bool] = lambda: False, reserve: Callable[[], float] = float) -> Iterator[TrainingState]:
        """Train until the budget is spent or `stop()`, yielding `TrainingState` (in the first process; the others yield none).

        A budget of time keeps the seconds that `reserve` asks for in the first process, at most half of what is left, for what
        is done around the steps: they are counted as spent after the last one.

        `stop` is asked between steps, where the state is whole; an exception from outside may come in the middle of one, so
        it saves nothing and the last checkpoint stands. A checkpoint that cannot be written is a warning, for the disk may be
        cleared while the training goes on; at the end it is an error.

        Raises:
            NotFinite: a NaN; the last good state has been saved.
            ScorefieldError: the last checkpoint could not be written.
        """
        sitting = Sitting(self.clock, self.config.training, self.fraction)
        if self.precision == "auto":
            self._choose_precision()
        if budget := self.config.training.seconds:
            asked = self.world.broadcast(reserve() if self.world.first else 0.0)
            self.reserved = min(asked, max(0.0, budget - self.clock.seconds) / 2)
        if self.world.first:
            yield self._report(sitting, "ready")
        try:
            while not (stopped := self._is_stopped(sitting, stop)) and not self._is_over:
                self._step()
                if self.world.first:
                    yield from self._due(sitting)
                else:
                    self.messages.clear()
        except NotFinite:
            if self.is_finite():
                self._checkpoint()
            raise
        if not stopped:
            self.messages += [too_short(self.clock.step, self.first_steps)] * self.hardly_begun
            sitting.spend(self.reserved)
        self._checkpoint(last=True)
        if self.world.first:
            yield self._report(sitting, "stopped" if stopped else "choosing")
            if not stopped:
                yield self._report(sitting, "done", averages=self.choose())

    @property
    def _is_over(self) -> bool:
        """Whether the budget is spent; one of nearly nothing buys one step."""
        return self.fraction >= 1 and self.clock.step > 0

    def _is_stopped(self, sitting: Sitting, stop: Callable[[], bool]) -> bool:
        """Count the time, and ask whether to stop: the answers of all processes, and the clock of the first, are agreed on."""
        sitting.tick()
        asked, self.clock.seconds = self.world.maximum(float(stop()), self.clock.seconds if self.world.first else 0.0)
        return asked > 0

    def _due(self, sitting: Sitting) -> Iterator[TrainingState]:
        """Yield what is due after a step."""
        sitting.tick()
        if sitting.report_is_due(self.fraction):
            yield self._report(sitting, "log", **sitting.checked(self._check))
        elif self.messages:
            yield self._report(sitting, "warning")
        if sitting.picture_is_due(self.fraction):
            with sitting.drawing():
                yield self._report(sitting, "picture")
        if sitting.checkpoint_is_due(self.fraction):
            yield self._report(sitting, "checkpoint" if self._checkpoint() else "warning")

    def _report(self, sitting: Sitting, event: Event, **extra: Any) -> TrainingState:
        """Return where the training stands, with the messages since the last report."""
        clock, fraction, pace, mean, messages = self.clock, self.fraction, sitting.pace, self.tally.mean(), tuple(self.messages)
        left = clock.seconds * (1 / fraction - 1) if fraction > 0 else math.nan
        self.messages.clear()
        if event == "log":
            sitting.reported()
            self.tally.sums = self.tally.empty()
        return TrainingState(event, clock.step, clock.seconds, clock.images, fraction, mean, pace, left, extra, messages)

    def _checkpoint(self, last: bool = False) -> bool:
        """Write a checkpoint; where that fails, say so and go on, if there is anything to go on with."""
        try:
            self.save()
        except OSError as error:
            if last:
                raise ScorefieldError(
                    f"got an error of the system at the last checkpoint, of step {self.clock.step} ({error}), expected to "
                    "write there: correct it and go on from the checkpoint before, with --resume"
                ) from None
            self.messages.append(f"no checkpoint at step {self.clock.step} ({error}): training goes on and will try again")
            return False
        return True
