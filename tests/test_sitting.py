"""A budget of time is what a person waits: it pays for what is done around the steps; pictures wait until they are cheap."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from scorefield import VE
from scorefield.config import Optimiser, RunConfig, Training
from scorefield.data import DataConfig, open_source
from scorefield.levels import Levels
from scorefield.nets.mlp import MLPConfig
from scorefield.objectives import Denoising
from scorefield.prediction import EDM
from scorefield.runs import build_model
from scorefield.samplers import Heun
from scorefield.training import sitting
from scorefield.training.checkpoint import Clock
from scorefield.training.loop import Trainer
from scorefield.training.sitting import SHARE, Sitting


class Stopped:
    """A clock that moves when it is told to; a question put to it costs `each`."""

    def __init__(self, each: float = 0.0) -> None:
        self.now, self.each = 0.0, each

    def perf_counter(self) -> float:
        self.now += self.each
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Stopped:
    found = Stopped()
    monkeypatch.setattr(sitting, "time", SimpleNamespace(perf_counter=found.perf_counter))
    return found


def trainer_of(budget: Training) -> Trainer:
    data = open_source("mixture", DataConfig(examples=400))
    run = RunConfig(
        source="mixture",
        recipe="auto",
        process=VE(0.05, 8.0),
        parametrisation=EDM(data_std=1.0),
        network=MLPConfig(width=8, depth=1),
        objective=Denoising(noise_distribution=Levels(8)),
        sampler=Heun(),
        levels=8,
        data=DataConfig(examples=400),
        optimiser=Optimiser(lr=3e-3, warmup=5),
        training=budget,
    )
    return Trainer(run, data, build_model(run, data.shape, 1.0), None, torch.device("cpu"))


TIMED = Training(steps=None, seconds=100.0, batch=8, ema=0.9, precision="float32", pictures=0)


@pytest.mark.parametrize(("asked", "kept"), [(0.0, 0.0), (30.0, 30.0), (80.0, 50.0)])
def test_what_is_reserved_is_taken_from_the_steps_and_at_most_half_of_the_budget(
    asked: float, kept: float, clock: Stopped
) -> None:
    clock.each = 1.0
    trainer, steps = trainer_of(TIMED), list[float]()
    for state in trainer.run(reserve=lambda: asked):
        if state.event != "choosing" and state.event != "done":
            steps.append(state.seconds)
    assert trainer.reserved == kept
    assert 100 - kept - 8 <= max(steps) <= 100 - kept + 8  # the clock moves by a few seconds between two looks at it
    assert trainer.clock.seconds >= 100 and state.fraction == 1 and state.seconds_left == 0
    assert kept == 0 or trainer.clock.seconds == 100


def test_a_run_that_goes_on_reserves_from_what_is_left_and_ends_when_the_budget_does(clock: Stopped) -> None:
    clock.each = 1.0
    trainer = trainer_of(TIMED)
    *_, first = trainer.run(lambda: trainer.clock.seconds > 40, lambda: 30.0)
    assert first.event == "stopped" and first.seconds < 60  # what is done at the end was not done, so it does not count
    begun = trainer.clock.seconds
    for state in trainer.run(reserve=lambda: 1000.0):
        assert state.fraction >= begun / 100
    assert trainer.reserved == (100 - begun) / 2 and trainer.clock.seconds == 100


def test_a_budget_of_steps_reserves_nothing_and_time_that_steps_did_not_need_does_not_count(clock: Stopped) -> None:
    clock.each = 0.01
    by_steps = trainer_of(replace(TIMED, steps=5, seconds=None))
    list(by_steps.run(reserve=lambda: pytest.fail("nobody asks")))
    both = trainer_of(replace(TIMED, steps=5))
    list(both.run(reserve=lambda: 30.0))
    assert by_steps.clock.step == both.clock.step == 5 and both.clock.seconds < 1


def test_pictures_on_the_way_take_at_most_a_twentieth_of_the_time(clock: Stopped) -> None:
    budget = replace(TIMED, seconds=1000.0, pictures=100)
    one = Sitting(Clock(), budget, 0.0)
    clock.now = 10.0
    one.tick()
    one.checked(lambda: setattr(clock, "now", clock.now + 0.5) or {})  # the first picture is taken to cost three of it
    drawn = list[float]()
    for second in range(11, 1000):
        clock.now = float(second)
        one.tick()
        if one.picture_is_due(second / 1000):
            with one.drawing():
                clock.now += 4.0
            drawn.append(second)
    assert drawn[0] == SHARE * 3 * 0.5 and len(drawn) > 5
    assert all(later - sooner >= SHARE * 4 for sooner, later in zip(drawn, drawn[1:], strict=False))


def test_a_budget_of_steps_draws_every_picture_that_was_asked_for(clock: Stopped) -> None:
    one, drawn = Sitting(Clock(), replace(TIMED, steps=100, seconds=None, pictures=4), 0.0), 0
    for step in range(1, 100):
        if one.picture_is_due(step / 100):
            drawn += 1
            with one.drawing():
                clock.now += 1000.0
    assert drawn == 3  # the fourth is drawn at the end
