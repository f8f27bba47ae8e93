"""Stochastic Adams: exact on a Gaussian in one step whatever its noise, order 2 in law, and Adams without noise."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import each_case

from scorefield import VE, VP, Gaussian, GaussianMixture, Process, RectifiedFlow, SampleRng
from scorefield.levels import ladder_of
from scorefield.samplers import ABM, DPMSolver, Sampler, StochasticABM, simulate
from scorefield.verification.affine import Scripted, affine_map, measured_order, push, snapshots

PROCESSES = {"ve": VE(0.05, 8.0), "vp": VP(), "rectified-flow": RectifiedFlow()}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def missed(sampler: Sampler, process: Process) -> float:
    """How far one jump across half of the process's range is from the covariance of the data's law there, relative to it."""
    field = Gaussian([1.5, -0.5], [[0.7, 0.0], [0.0, 0.7]], process)
    high, low = (process.t_min + share * (process.t_max - process.t_min) for share in (0.75, 0.25))
    ladder = torch.tensor([high, low], dtype=torch.float64)
    mean, covariance = push(*snapshots(field, high), affine_map(field, sampler, ladder))
    true_mean, true_covariance = snapshots(field, low)
    assert float((mean - true_mean).abs().max()) < 1e-12 * float(1 + true_mean.abs().max())
    return float((covariance - true_covariance).abs().max() / true_covariance.abs().max())


@pytest.mark.theorem("angle-flow")
@each_process
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 2.0])
def test_one_step_of_any_length_is_exact_in_law_where_the_data_are_a_gaussian(eta: float, process: Process) -> None:
    assert missed(StochasticABM(eta), process) < 1e-12
    if eta:
        assert missed(DPMSolver(2, eta), process) > 1e-2  # exact on a point, and so not here


@pytest.mark.theorem("noise-family")
@pytest.mark.parametrize("eta", [0.5, 2.0])
@pytest.mark.parametrize(("past", "corrector"), [(1, False), (2, False), (2, True), (3, True)])
def test_the_order_in_law_is_the_declared_one_with_any_noise(eta: float, past: int, corrector: bool) -> None:
    """With eta = 1 and on every process it is among the contracts of all samplers."""
    sampler = StochasticABM(eta, past, corrector)  # type: ignore[arg-type]
    assert sampler.order == (1 if past == 1 else 2)
    order, _, _ = measured_order(sampler, VE(0.05, 8.0), (40, 80))
    assert order >= sampler.order - 0.15
    if past == 1:
        assert order < 1.2  # what the second value is for


@pytest.mark.theorem("angle-flow")
@each_process
@each_case(past__corrector=[(1, False), (2, False), (2, True), (3, True)])
def test_without_noise_it_is_adams(past: int, corrector: bool, process: Process) -> None:
    field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process)
    ladder = torch.linspace(process.t_max, process.t_min, 9, dtype=torch.float64)[1:-1]
    seeds = SampleRng(range(5))
    start = seeds.normal((2,))
    ends = []
    for sampler in (StochasticABM(0.0, past, corrector), ABM(past, corrector)):  # type: ignore[arg-type]
        *_, last = simulate(field, sampler, ladder, start, rng=Scripted(5))
        ends.append(last.x)
    assert float((ends[0] - ends[1]).abs().max()) < 1e-11


def test_noise_gives_the_modes_their_weights_in_thirty_evaluations() -> None:
    """0.8 and 0.2, ten deviations apart, within five standard errors; and the spread of the larger one."""
    field = GaussianMixture([0.8, 0.2], [[-5.0, 0.0], [5.0, 0.0]], [1.0, 1.0], VE(0.01, 50.0))
    n = 4000
    *_, last = simulate(field, StochasticABM(), ladder_of(field, "karras", 30), rng=SampleRng(range(n)))
    left = last.x[last.x[:, 0] < 0]
    assert abs(len(left) / n - 0.8) < 5 * math.sqrt(0.8 * 0.2 / n)
    assert abs(float(left[:, 1].std()) - 1) < 5 / math.sqrt(2 * len(left)) + 0.02  # the error in law of 29 steps
