"""One row per sample: seeds, conditioning and starts that are not as many as the samples are refused, wherever they are taken.

A single row would be shared by all of them without a word, and three rows for four samples end in a message of torch's.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from helpers import each_case

from scorefield import VE, Gaussian, NotFinite, SampleRng, ScorefieldError, ScoreModel, geometric, registry
from scorefield.bound import bound, bound_terms
from scorefield.diagnosis import diagnose
from scorefield.field import EnergyModel
from scorefield.guidance import Replacement, Tempered, fill_in
from scorefield.likelihood import data_log_prob, elbo, log_prob
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.prediction import EDM, Energy, Prediction
from scorefield.process import DDPMChain
from scorefield.samplers import ABM, Adaptive, Ancestral, curl, sample, simulate

PROCESS = VE(0.1, 5.0)


def model(process: Any = PROCESS, classes: int = 3) -> ScoreModel:
    network = MLP((2,), width=8, depth=1, classes=classes)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    return ScoreModel(network.double(), EDM(), process, (2,))


MODEL, X = model(), torch.zeros(4, 2, dtype=torch.float64)
LADDER, SEEDS = geometric(PROCESS, 4), range(4)
KNOWN = torch.tensor([[1.0, math.nan]], dtype=torch.float64).expand(4, 2)
TIMES = torch.full((4,), 0.5, dtype=torch.float64)
CHAIN = model(DDPMChain(5))
TAKERS: dict[str, Callable[[Any, SampleRng], Any]] = {  # whatever takes conditioning and seeds: of four samples
    "simulate": lambda cond, rng: list(simulate(MODEL, ABM(), LADDER, rng=rng, cond=cond)),
    "sample": lambda cond, rng: sample(MODEL, Adaptive(), LADDER[[0, -1]], rng=rng, cond=cond),
    "sample at a temperature": lambda cond, rng: sample(Tempered(MODEL, 0.5), ABM(), LADDER, rng=rng, cond=cond),
    "replacement": lambda cond, rng: sample(MODEL, Replacement(Ancestral(), KNOWN), LADDER, rng=rng, cond=cond),
    "fill_in": lambda cond, rng: fill_in(MODEL, KNOWN, rng=rng, levels=3, particles=2, cond=cond),
    "log_prob": lambda cond, rng: log_prob(MODEL, X, cond=cond, rng=rng, tolerance=1e-1, within=None),
    "data_log_prob": lambda cond, rng: data_log_prob(MODEL, X, cond=cond, rng=rng, tolerance=1e-1, within=None),
    "elbo": lambda cond, rng: elbo(MODEL, X, LADDER, cond, rng=rng),
    "bound": lambda cond, rng: bound(CHAIN, X, cond, rng=rng),
    "bound_terms": lambda cond, rng: bound_terms(CHAIN, X, torch.tensor([1, 2, 3, 4]), cond, rng=rng),
    "curl": lambda cond, rng: curl(MODEL, X, TIMES, rng, cond=cond),
}
ENERGY = EnergyModel(Potential(MLP((2,), width=8, depth=1, classes=3)), Energy(), PROCESS, (2,)).double()
for _name, _kind in registry.every("objective").items():
    if not _kind.one_process:  # chains know no classes
        _field = CHAIN if _name in ("simple", "bound") else ENERGY if _name == "contrastive" else MODEL
        TAKERS[_name] = lambda cond, rng, kind=_kind, field=_field: kind()(field, X, cond, rng=rng)
each_taker = each_case(take=TAKERS)


@each_taker
@each_case(rows=[0, 1, 3, 5, 8])
def test_conditioning_is_one_row_per_sample(take: Any, rows: int) -> None:
    with pytest.raises(ScorefieldError, match=rf"got cond of shape \({rows},\) for 4 samples, expected one row for each"):
        take(torch.zeros(rows, dtype=torch.long), SampleRng(SEEDS))


@each_taker
@each_case(seeds=[1, 3, 5])
def test_seeds_are_one_per_sample(take: Any, seeds: int) -> None:
    """One seed for all would give all of them the same noise; without a start the seeds say how many samples there are."""
    with pytest.raises(ScorefieldError, match=r"expected|for 4 samples|for [135] samples"):
        take(torch.zeros(4, dtype=torch.long), SampleRng(range(seeds)))


BAD_LABELS = {
    "beyond any class": torch.tensor([0, 1, 2, 4]),
    "negative": torch.tensor([0, 1, 2, -1]),
    "fractions": torch.tensor([0.0, 1.0, 0.5, 1.0]),
    "truth": torch.tensor([True, False, True, True]),
    "one-hot": torch.eye(4, 3, dtype=torch.long),
}


@each_taker
@each_case(cond=BAD_LABELS)
def test_labels_are_those_of_the_classes(take: Any, cond: Any) -> None:
    with pytest.raises(ScorefieldError, match=r"got class labels .*, expected .*0 to 2"):
        take(cond, SampleRng(SEEDS))


@pytest.mark.parametrize("width", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_type_are_the_same_labels(width: torch.dtype) -> None:
    labels = torch.tensor([0, 1, 2, 3])  # the last stands for any class
    found = sample(MODEL, ABM(), LADDER, rng=SampleRng(SEEDS), cond=labels.to(width))
    assert torch.equal(found, sample(MODEL, ABM(), LADDER, rng=SampleRng(SEEDS), cond=labels))
    any_class = sample(MODEL, ABM(), LADDER, rng=SampleRng([3]))
    numpy.testing.assert_allclose(found[3], any_class[0], rtol=0, atol=1e-12)
    assert len({tuple(row) for row in found.tolist()}) == 4


def test_labels_of_a_diagnosis_are_one_per_example() -> None:
    x = SampleRng(range(20)).normal((2,))
    for rows in (19, 21):
        with pytest.raises(ScorefieldError, match=rf"got cond of shape \({rows},\) for 20 samples"):
            diagnose(MODEL, x, x, labels=(torch.zeros(rows, dtype=torch.long), torch.zeros(20, dtype=torch.long)), levels=2)


# --- the start and the ladder -----------------------------------------------------------------------------------------

FIELD = Gaussian([1.5, -0.5], [[1.5, 0.4], [0.4, 0.3]], PROCESS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.int8, torch.bool])
def test_a_start_of_any_real_type_is_taken_as_float64(dtype: torch.dtype) -> None:
    start = torch.tensor([[1, 0], [0, 1]], dtype=dtype)
    found, same = (list(simulate(FIELD, Ancestral(), LADDER, x, rng=SampleRng([0, 1]))) for x in (start, start.double()))
    assert all(snapshot.x.dtype == torch.float64 for snapshot in found)
    assert torch.equal(found[-1].x, same[-1].x)


def test_a_start_with_gradients_is_detached_and_one_that_is_no_real_number_is_refused() -> None:
    start = torch.zeros(2, 2, requires_grad=True)
    assert not next(simulate(FIELD, ABM(), LADDER, start, rng=SampleRng([0, 1]))).x.requires_grad
    with pytest.raises(ScorefieldError, match="got a complex start"):
        next(simulate(FIELD, ABM(), LADDER, torch.zeros(2, 2, dtype=torch.complex64), rng=SampleRng([0, 1])))
    spoilt = torch.tensor([[0.0, 1.0], [math.nan, 1.0]])
    with pytest.raises(NotFinite, match="in 1 of the 2 samples to start from"):
        next(simulate(FIELD, ABM(), LADDER, spoilt, rng=SampleRng([0, 1])))
    with pytest.raises(ScorefieldError, match="got an rng without seeds"):
        next(simulate(FIELD, ABM(), LADDER, rng=SampleRng([])))


BAD_LADDERS = {
    "of several axes": torch.tensor([[1.0, 0.75], [0.5, 0.0]]),
    "complex": torch.tensor([1.0 + 1.0j, 0.5]),
    "truth": torch.tensor([True, False]),
    "above": torch.tensor([1.5, 0.5]),
    "turned round": torch.tensor([0.0, 1.0]),
    "nan": torch.tensor([math.nan]),
    "empty": torch.tensor([]),
}


@each_case(ladder=BAD_LADDERS)
@pytest.mark.parametrize(
    "walk",
    [
        lambda ladder: sample(FIELD, ABM(), ladder, rng=SampleRng(SEEDS)),
        lambda ladder: fill_in(FIELD, KNOWN, rng=SampleRng(SEEDS), ladder=ladder, particles=1),
        lambda ladder: elbo(FIELD, X, ladder, rng=SampleRng(SEEDS)),
    ],
    ids=["sample", "fill_in", "elbo"],
)
def test_a_ladder_is_a_row_of_times_that_fall_inside_the_range(walk: Any, ladder: torch.Tensor) -> None:
    with pytest.raises(ScorefieldError, match=r"got (a ladder of|times from)") as refusal:
        walk(ladder)
    assert not isinstance(refusal.value, NotFinite)


def test_whole_times_are_times() -> None:
    """The steps of a chain may be counted in integers: one E[x0 | x] and two steps either way."""
    chain = Gaussian([1.5, -0.5], [[1.5, 0.4], [0.4, 0.3]], DDPMChain(10))
    whole, real = (
        sample(chain, ABM(), torch.tensor([9, 5, 1]).to(d), rng=SampleRng(SEEDS)) for d in (torch.int64, torch.float64)
    )
    assert torch.equal(whole, real)


def test_a_field_that_says_nothing_is_named_at_its_first_prediction() -> None:
    """An output of 0·x0 + 0·score: neither the views nor the samples would be numbers."""

    class Silent(Gaussian):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            return Prediction(self.process, x, t, torch.zeros_like(x), torch.zeros_like(t), torch.zeros_like(t))

    for sampler, levels in ((ABM(), 5), (Adaptive(), 2)):
        with pytest.raises(ScorefieldError, match="repeats x_t and so says nothing about the score"):
            sample(Silent([0.0], [[1.0]], PROCESS), sampler, geometric(PROCESS, levels), rng=SampleRng([0]))
