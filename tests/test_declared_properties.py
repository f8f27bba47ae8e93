"""Declared properties, measured from outside: of every sampler, of what wraps one, of every process and every objective."""

import copy
import math
from typing import Any

import numpy
import pytest
import torch
from helpers import each_case

from scorefield import VE, GaussianMixture, Process, SampleRng, ScorefieldError, ScoreModel, geometric, registry
from scorefield.field import EnergyModel
from scorefield.guidance import Replacement
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.objectives import Denoising, Persistent, VariationalBound
from scorefield.objectives.weightings import Learned
from scorefield.prediction import Energy, ScaledScore
from scorefield.process import DDPMChain, LinearVE
from scorefield.samplers import (
    ABM,
    DEIS,
    AnnealedMala,
    DPMSolver,
    Heun,
    Langevin,
    Mala,
    PredictorCorrector,
    Sampler,
    StochasticABM,
    simulate,
)
from scorefield.samplers.base import CountedField, Info, steps_of
from scorefield.verification import facts

REGISTERED: dict[str, Any] = {name: kind() for name, kind in registry.every("sampler").items()}
SAMPLERS: dict[str, Any] = REGISTERED | {
    "abm of one value": ABM(1),  # with one value there is nothing to remember
    "deis of one value": DEIS(1),
    "dpm-solver++ of one value, with noise": DPMSolver(1, eta=1.0),
    "dpm-solver++ sde 2m": DPMSolver(2, eta=1.0),
    "heun with churn": Heun(churn=10.0),
    "predictor-corrector over abm": PredictorCorrector(ABM()),
    "predictor-corrector over abm of one value": PredictorCorrector(ABM(1)),
    "predictor-corrector over itself": PredictorCorrector(PredictorCorrector(StochasticABM())),
    "stochastic-abm of one value": StochasticABM(past=1),
}
each_sampler = each_case(sampler=SAMPLERS)


@each_sampler
def test_the_state_of_a_sampler_that_remembers_has_to_do_with_the_x_before(sampler: Any) -> None:
    assert facts.remembers(sampler) == sampler.remembers


@each_sampler
def test_a_sampler_that_dwells_leaves_the_law_at_its_level_and_one_that_jumps_takes_it_to_the_next(sampler: Any) -> None:
    assert facts.dwells(sampler) == sampler.dwells


def without(sampler: Sampler, samples: int, shape: tuple[int, ...]) -> Replacement:
    """Replacement that has nothing to put back."""
    return Replacement(sampler, torch.full((samples, *shape), math.nan))


@each_case(name=[name for name, sampler in SAMPLERS.items() if not sampler.remembers])
def test_replacement_passes_on_the_properties_of_what_it_wraps(name: str) -> None:
    sampler = SAMPLERS[name].at_fixed_steps()
    wrapped = without(sampler, 5, (2,))
    assert (wrapped.order, wrapped.dwells, wrapped.remembers) == (sampler.order, sampler.dwells, sampler.remembers)
    assert wrapped.steps_per_level == sampler.steps_per_level
    assert not facts.remembers(wrapped)
    assert facts.dwells(without(sampler, facts.SAMPLES, (1,))) == sampler.dwells
    short, levels = wrapped.within(100)
    inner, as_many = sampler.within(100)
    assert (short.steps_per_level, levels) == (inner.steps_per_level, as_many)
    adaptive = without(REGISTERED["adaptive"], 5, (2,)).at_fixed_steps()
    assert isinstance(adaptive, Replacement) and adaptive.sampler == REGISTERED["adaptive"].at_fixed_steps()


def test_a_corrector_needs_a_predictor_that_jumps() -> None:
    field = GaussianMixture([1.0], [[0.0]], [1.0], VE(0.1, 5.0))
    for predictor in (Langevin(steps=2), AnnealedMala()):
        with pytest.raises(ScorefieldError, match=r"got the predictor .*, which stays on its level, expected one that jumps"):
            list(simulate(field, PredictorCorrector(predictor), geometric(field.process, 3), rng=SampleRng([0])))


# --- what a step gives back -------------------------------------------------------------------------------------------

FIELD = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], VE(0.1, 5.0))


def ladder(levels: int = 5) -> torch.Tensor:
    return geometric(FIELD.process, levels)


@each_sampler
def test_snapshots_stay_as_they_were_shown(sampler: Any) -> None:
    """Neither x nor what a step reported changes afterwards; nor does the start that was given."""
    start, short = torch.randn(3, 2, dtype=torch.float64), sampler.within(8)[0]
    given, kept, shown = start.clone(), [], []
    for snapshot in simulate(FIELD, short, ladder(), start, rng=SampleRng(range(3))):
        kept.append(snapshot)
        shown.append((snapshot.x.clone(), copy.deepcopy(snapshot.info)))
        start.zero_()  # what the caller does to the start does not reach a snapshot either
    for snapshot, (x, info) in zip(kept, shown, strict=True):
        assert torch.equal(snapshot.x, x)
        assert snapshot.info == info
        assert isinstance(snapshot.info, Info)
        with pytest.raises(AttributeError):
            snapshot.info.acceptance = ()
    assert torch.equal(kept[0].x, given)


@pytest.mark.parametrize("hold", [1, 3])
@pytest.mark.parametrize(
    "make",
    [AnnealedMala, lambda hold: Mala(tau=0.01, steps=hold), lambda hold: without(Mala(tau=0.01, steps=hold), 50, (2,))],
    ids=["annealed-mala", "mala", "mala with replacement"],
)
def test_a_snapshot_shows_the_acceptance_of_the_levels_visited_until_then(hold: int, make: Any) -> None:
    """After k steps of one a level k numbers, each a mean probability over steps and samples, whatever came later."""
    snapshots = list(simulate(FIELD, make(hold), ladder(), rng=SampleRng(range(50))))
    shown = [snapshot.info.acceptance for snapshot in snapshots]
    assert [len(rates) for rates in shown] == [0, *(1 + step // hold for step in range(5 * hold)), 5]
    for k in range(1, 6):  # what a level ended with is what every later snapshot says of it
        assert all(rates[: k - 1] == shown[hold * (k - 1)] for rates in shown[hold * (k - 1) :])
    assert all(0 < rate <= 1 for rate in shown[-1])
    assert hold == 1 or len({rates[0] for rates in shown[1 : 1 + hold]}) == hold  # on its level it is a running mean


class Twice(Sampler):
    """A sampler that takes every step twice from the same x, state and noise, and compares; it keeps the steps."""

    order, remembers, evaluations_per_step, ladder, levels = None, True, None, "geometric", 4

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.taken = sampler, []

    @property
    def dwells(self) -> bool:
        return self.sampler.dwells

    @property
    def steps_on_last_level(self) -> bool:
        return self.sampler.steps_on_last_level

    @property
    def steps_per_level(self) -> int:
        return self.sampler.steps_per_level

    def start(self, field: Any, steps: Any) -> Any:
        return self.sampler.start(field, steps)

    def step(self, field: Any, x: Any, step: Any, state: Any, noise: Any) -> Any:
        self.taken.append(step)
        again, before = noise[:], x.clone()
        first = self.sampler.step(field, x, step, state, again)
        assert torch.equal(x, before)
        second = self.sampler.step(field, x, step, state, noise)
        assert torch.equal(first[0], second[0])
        assert first[2] == second[2]
        return second


@each_sampler
def test_a_step_is_a_function_of_what_it_is_given(sampler: Any) -> None:
    """Neither x nor the state is changed in place: the same step once more gives the same."""
    snapshots = list(simulate(FIELD, Twice(sampler.within(8)[0]), ladder(), rng=SampleRng(range(3))))
    assert len(snapshots) > 4
    wrapped = Twice(without(sampler.within(8)[0], 3, (2,))) if not sampler.remembers else None
    assert wrapped is None or list(simulate(FIELD, wrapped, ladder(), rng=SampleRng(range(3))))


@each_sampler
def test_on_the_last_level_the_loop_calls_a_sampler_that_dwells_and_none_that_jumps(sampler: Any) -> None:
    """It shows the last level in both cases, and after a jump to it x stays as it was."""
    short = sampler.within(8)[0]
    watched = Twice(short)
    snapshots = list(simulate(FIELD, watched, ladder(), rng=SampleRng(range(3))))
    hold, levels = short.steps_per_level, len(ladder())
    assert [step.index for step in watched.taken] == [j for j in range(levels - (not short.dwells)) for _ in range(hold)]
    assert (None in [step.s for step in watched.taken]) == short.dwells
    assert len(snapshots) == levels * hold + 2
    if not short.dwells:
        arrived, shown = snapshots[-2 - hold], snapshots[-2]
        assert torch.equal(shown.x, arrived.x)
        assert (shown.t, shown.evaluations, shown.info) == (arrived.t, arrived.evaluations, arrived.info)


@each_case(name=[name for name, sampler in REGISTERED.items() if not sampler.remembers])
def test_replacement_puts_the_observed_coordinates_in_on_the_last_level_and_jumps_no_further(name: str) -> None:
    """Even where it is the only level: a start a thousand of its deviations away is not what is left."""
    inner = Twice(REGISTERED[name].within(8)[0])
    inner.remembers = False
    observed, lowest = torch.tensor([[1.5, torch.nan]], dtype=torch.float64).expand(3, 2), ladder()[-1:]
    far = torch.full((3, 2), 100.0, dtype=torch.float64)
    *_, before, _ = simulate(FIELD, Replacement(inner, observed), lowest, far, rng=SampleRng(range(3)))
    assert bool(((before.x[:, 0] - 1.5).abs() < 5 * float(FIELD.process.sigma(lowest))).all())
    assert bool(inner.taken) == inner.dwells


def test_a_step_that_changes_its_state_is_seen() -> None:
    class Counts(type(REGISTERED["euler"])):  # type: ignore[misc]
        def start(self, field: Any, steps: Any) -> list[int]:
            return []

        def step(self, field: Any, x: Any, step: Any, state: Any, noise: Any) -> Any:
            state.append(1)
            return x + len(state), state, Info()

    with pytest.raises(AssertionError):
        list(simulate(FIELD, Twice(Counts()), ladder(), rng=SampleRng(range(3))))


def test_coefficients_of_churned_steps_are_those_of_the_churned_times() -> None:
    """lambda·(1 + gamma) with gamma = churn/steps, and t, alpha that belong to it; at the top the process ends."""
    process = registry.find("process", "vp")()
    field = GaussianMixture([1.0], [[0.0]], [1.0], process)
    steps = steps_of(process, geometric(process, 5))
    state = Heun(churn=0.4).start(CountedField(field, None), steps)
    for j, (step, (t, alpha, lam)) in enumerate(zip(steps, state, strict=True)):
        time = torch.tensor(t, dtype=torch.float64)
        assert math.isclose(alpha, float(process.alpha(time)), rel_tol=1e-12)
        assert math.isclose(lam, float(process.sigma(time) / process.alpha(time)), rel_tol=1e-9)
        assert math.isclose(lam, step.sigma / step.alpha * (1.1 if j else 1.0), rel_tol=1e-9)


# --- processes --------------------------------------------------------------------------------------------------------


@each_case(name=registry.names("process"))
def test_drift_or_diffusion_of_a_discrete_process_jump_at_whole_times_and_of_no_other(name: str) -> None:
    """Left and right of whole times inside the range, relative to a step of the same length elsewhere."""
    process: Process = registry.find("process", name).example()
    assert type(process) is registry.find("process", name)
    whole = torch.tensor(range(math.floor(process.t_min) + 1, math.ceil(process.t_max))[:200], dtype=torch.float64)
    if not len(whole):
        assert not process.discrete
        return

    def moved(at: torch.Tensor) -> float:
        """The largest relative change of g² and f across 2e-6 of time."""
        g = [process.diffusion(at + side) ** 2 for side in (-1e-6, 1e-6)]
        f = [process.drift(at + side) for side in (-1e-6, 1e-6)]
        return max(float(((b - a).abs() / a.abs().clamp(min=1e-300)).max()) for a, b in (g, f))

    assert (moved(whole) > 1e-3) == process.discrete
    assert moved(whole - 0.37) < 1e-3


def test_an_objective_of_a_chain_refuses_a_continuous_process_whose_time_begins_at_1() -> None:
    """EDM's process from sigma = 1 to 80 has whole ends and no steps."""
    for objective in ("simple", "bound"):
        kind = registry.find("objective", objective)()
        kind.check(GaussianMixture([1.0], [[0.0]], [1.0], DDPMChain(100)))
        with pytest.raises(ScorefieldError, match=r"got a process on \[1, 80\] for steps n = 1, \.\.\., T"):
            kind.check(GaussianMixture([1.0], [[0.0]], [1.0], LinearVE(1.0, 80.0)))


# --- objectives -------------------------------------------------------------------------------------------------------


@each_case(name=registry.names("objective"))
def test_an_objective_needs_one_process_where_taking_its_terms_changes_the_model(name: str) -> None:
    objective = registry.find("objective", name)()
    process = DDPMChain(20) if name in ("simple", "bound") else VE(0.1, 5.0)
    network = MLP((2,), width=8, depth=1)
    model: Any
    if "contrastive" == name or objective.one_process:
        model = EnergyModel(Potential(network), Energy(), process, (2,))
    else:
        model = ScoreModel(network, ScaledScore(), process, (2,))
    model.add_learned(objective.prepare(model))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    objective.terms(model.train(), torch.randn(4, 2), None, rng=SampleRng(range(4)), learned=model.learned)
    after = model.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before) == objective.one_process
    numpy.testing.assert_array_equal(sorted(before), sorted(after))


@pytest.mark.parametrize(
    ("objective", "name", "place"),
    [
        (VariationalBound(variance="learned"), "variance_mix", 0),
        (Denoising(weighting=Learned()), "loss_by_level.values", -1),
        (Persistent(chains=4), "chains", None),
    ],
)
def test_what_an_objective_learns_beside_the_score_is_saved_and_counted_as_the_models_own(
    objective: Any, name: str, place: int | None
) -> None:
    """Names in saved weights, and the numbers by which optimisers and their checkpoints know parameters, never change."""
    process, network = DDPMChain(20), MLP((2,), width=8, depth=1)
    model: Any = ScoreModel(network, ScaledScore(), process, (2,))
    if place is None:
        model = EnergyModel(Potential(network), Energy(), process, (2,))
    bare = model.state_dict()
    own = [id(p) for p in model.parameters()]
    model.add_learned(objective.prepare(model))
    state, parameters = model.state_dict(), [id(p) for p in model.parameters()]
    assert state.keys() - bare.keys() == {name}
    if place is not None:
        assert id(next(model.learned.parameters())) == parameters.pop(place)
    assert parameters == own
    other = copy.deepcopy(model)
    assert other.state_dict().keys() == state.keys()
    changed = {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}
    other.load_state_dict(changed)
    assert all(torch.equal(value, changed[key]) for key, value in other.state_dict().items())
    assert torch.equal(model.state_dict()[name], state[name])
    with pytest.raises(RuntimeError, match=name):
        other.load_state_dict(bare)
    nested = torch.nn.ModuleDict({"a": copy.deepcopy(model)})
    nested.load_state_dict({f"a.{key}": value for key, value in changed.items()})
    assert torch.equal(nested.state_dict()[f"a.{name}"], changed[name])
