"""Networks from elsewhere as fields: what each constructor is told is what comes out, and wrong readings are refused.

The truth is a mixture whose views are known in closed form (`exact.py`, tested by itself). A function of (x, number) is made of
it that finds its time from the number alone, so a number that is not the one asked for gives another field.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import each_case
from torch import Tensor, nn

from scorefield import (
    EDM,
    VE,
    VP,
    Cosine,
    DDPMChain,
    EnergyField,
    Field,
    GaussianMixture,
    LinearVE,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    ScoreModel,
    SubVP,
)
from scorefield.levels import geometric
from scorefield.nets.mlp import MLP
from scorefield.process import Process
from scorefield.registry import every
from scorefield.samplers import simulate

PROCESSES = {"ve": VE(0.01, 50.0), "edm": LinearVE(), "vp": VP(), "sub-vp": SubVP(), "cosine": Cosine(), "chain": DDPMChain()}
PROCESSES |= {"flow": RectifiedFlow()}
MEANINGS = ("denoiser", "noise", "score", "velocity")
MADE: dict[str, Callable[..., Any]] = {name: getattr(Field, f"of_{name}") for name in MEANINGS}
VIEW = {"denoiser": "denoised", "noise": "noise", "score": "score", "velocity": "velocity"}

# The time from the number, each inverted by hand rather than by `noise_label.py`.
TIME: dict[str, Callable[[Process, Tensor], Tensor]] = {
    "sigma": lambda process, u: process.time_of_sigma(u),
    "log-sigma": lambda process, u: process.time_of_sigma(u.exp()),
    "c-noise": lambda process, u: process.time_of_sigma((4 * u).exp()),
    "log-snr": lambda process, u: process.time_of_sigma((-u / 2).exp()),
    "t": lambda process, u: u,
    "step": lambda process, u: u + 1,
}


def mixture(process: Process) -> GaussianMixture:
    return GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [0.3, 0.5], process)


def elsewhere(process: Process, meaning: str, time: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (x, number) -> output of that meaning, with no other knowledge of the noise than the number."""
    truth = mixture(process)
    return lambda x, number: getattr(truth(x, time(number)), VIEW[meaning])


def moments(process: Process) -> dict[str, Any]:
    truth = mixture(process)
    return {"data_mean": truth.data_mean, "data_std": truth.data_std}


def points(process: Process, rows: int = 9) -> tuple[Tensor, Tensor]:
    """Points on the path of noise of the mixture's size, at times all over the range."""
    t = process.time_of_sigma(torch.logspace(-1.5, 1, rows, dtype=torch.float64)).clamp(process.t_min, process.t_max)
    x0, noise = SampleRng(range(rows)).normal((2,)), SampleRng(range(rows, 2 * rows)).normal((2,))
    return process.perturb(x0, t, noise), t


@each_case(process=PROCESSES, meaning=MEANINGS, noise=list(TIME))
def test_every_meaning_on_every_process_by_every_number_is_the_field_it_was_made_of(
    process: Process, meaning: str, noise: str
) -> None:
    function = elsewhere(process, meaning, lambda number: TIME[noise](process, number))
    field = MADE[meaning](function, process, (2,), noise=noise, check=False, **moments(process))
    x, t = points(process)
    got, truth = field(x, t), mixture(process)(x, t)
    for view in VIEW.values():
        # Solving for one view from another multiplies roundings by at most the ratio of x to the smallest of its terms.
        torch.testing.assert_close(getattr(got, view), getattr(truth, view), rtol=1e-7, atol=1e-7)


@each_case(process={name: PROCESSES[name] for name in ("vp", "cosine", "chain")})
def test_alpha_bar_is_the_square_of_alpha(process: Process) -> None:
    def time(abar: Tensor) -> Tensor:
        return process.time_of_sigma((1 / abar - 1).sqrt())  # sigma²/alpha² = 1/abar - 1 where alpha² + sigma² = 1

    field = Field.of_noise(elsewhere(process, "noise", time), process, (2,), noise="alpha-bar", **moments(process))
    x, t = points(process)
    torch.testing.assert_close(field(x, t).score, mixture(process)(x, t).score, rtol=1e-6, atol=1e-6)


def test_a_number_of_ones_own_is_any_function_of_t() -> None:
    """score_sde's networks are given 999·t; models of flow matching mostly count from noise to data, with the other sign."""
    vp = PROCESSES["vp"]
    field = Field.of_noise(elsewhere(vp, "noise", lambda u: u / 999), vp, (2,), noise=lambda t: 999 * t, **moments(vp))
    x, t = points(vp)
    torch.testing.assert_close(field(x, t).score, mixture(vp)(x, t).score, rtol=1e-9, atol=1e-9)

    flow = RectifiedFlow()
    from_data = elsewhere(flow, "velocity", lambda u: 1 - u)

    def towards_data(x: Tensor, u: Tensor) -> Tensor:
        return -from_data(x, u)

    field = Field.of_velocity(lambda x, u: -towards_data(x, u), flow, (2,), noise=lambda t: 1 - t, **moments(flow))
    x, t = points(flow)
    torch.testing.assert_close(field(x, t).denoised, mixture(flow)(x, t).denoised, rtol=1e-9, atol=1e-9)


def test_the_index_of_a_level_is_a_whole_number_that_counts_in_the_order_of_the_list() -> None:
    process, levels = VE(0.01, 50.0), [50.0, 7.0, 1.0, 0.1, 0.01]
    for ordered in (levels, levels[::-1], torch.tensor(levels)):
        table = torch.as_tensor(ordered, dtype=torch.float64)

        def function(x: Tensor, index: Tensor, table: Tensor = table) -> Tensor:
            assert index.dtype == torch.int64  # as an embedding wants it
            return mixture(process)(x, process.time_of_sigma(table[index])).score

        field = Field.of_score(function, process, (2,), noise=ordered, **moments(process))
        t = process.time_of_sigma(table)
        x = SampleRng(range(5)).normal((2,))
        torch.testing.assert_close(field(x, t).score, mixture(process)(x, t).score, rtol=1e-9, atol=1e-9)


def test_between_two_levels_the_denoised_image_is_that_of_the_nearer_one() -> None:
    process = VP()
    levels = torch.tensor([100.0, 5.0, 1.0, 0.05], dtype=torch.float64)
    times = process.time_of_sigma(levels)
    field = Field.of_denoiser(
        lambda x, index: mixture(process)(x, times[index]).denoised, process, (2,), noise=levels, **moments(process)
    )
    t, x = process.time_of_sigma(torch.tensor([1.3, 2.0], dtype=torch.float64)), SampleRng(range(2)).normal((2,))
    scaled = (process.alpha(times[2]) / process.alpha(t)).unsqueeze(1) * x
    got, near = field(x, t), mixture(process)(scaled, times[2].expand(2)).denoised
    torch.testing.assert_close(got.denoised, near, rtol=0, atol=1e-12)
    alpha, sigma = process.alpha(t).unsqueeze(1), process.sigma(t).unsqueeze(1)
    torch.testing.assert_close(got.score, (alpha * near - x) / sigma**2, rtol=1e-12, atol=1e-12)  # at t itself


# --- every sampler ----------------------------------------------------------------------------------------------------


def k_diffusion(x: Tensor, sigma: Tensor) -> Tensor:
    """A denoiser as k-diffusion has it: (x0 + sigma·noise, sigma) -> E[x0 | x], of the mixture."""
    return mixture(LinearVE())(x, sigma).denoised


class Posterior:
    """A posterior as azula has it: what a denoiser at (x_t, t) returns, with a mean."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean


def azula(x: Tensor, t: Tensor) -> Posterior:
    """A denoiser as azula has it; its time 0 is data, as it is here, and alpha and sigma are of t: here those of VP."""
    return Posterior(mixture(VP())(x, t).denoised)


EVERY = [("k-diffusion", name) for name in sorted(every("sampler"))]


@pytest.mark.parametrize(("library", "name"), [*EVERY, *(("azula", name) for name in ("abm", "ddim", "reverse-diffusion"))])
def test_every_sampler_draws_from_a_wrapped_denoiser_what_it_draws_from_the_field_itself(library: str, name: str) -> None:
    function, process, noise = {"k-diffusion": (k_diffusion, LinearVE(), "sigma"), "azula": (azula, VP(), "t")}[library]
    truth, kind = mixture(process), every("sampler")[name]
    few = {"steps": 4, "steps_per_level": 4, "energy": "line"}  # a denoiser has no energy: both take the integral of the score
    sampler = kind(**{key: value for key, value in few.items() if key in kind.__dataclass_fields__})
    field = Field.of_denoiser(function, process, (2,), noise=noise, **moments(process))
    ladder = geometric(process, 4)
    *_, one = simulate(field, sampler, ladder, rng=SampleRng(range(6)))
    *_, other = simulate(truth, sampler, ladder, rng=SampleRng(range(6)))
    torch.testing.assert_close(one.x, other.x, rtol=1e-5, atol=1e-5)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_a_network_computes_in_its_own_precision_and_the_state_keeps_float64() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1, dtype=torch.float32))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            assert x.dtype == sigma.dtype == torch.float32
            return self.one * x / (1 + sigma**2).unsqueeze(1)

    field = Field.of_denoiser(Half(), LinearVE(), (3,))
    x = SampleRng(range(2)).normal((3,))
    got = field(x, torch.tensor([0.5, 2.0], dtype=torch.float64))
    assert got.score.dtype == torch.float64 and isinstance(field, Field) and len(list(field.parameters())) == 1
    expected = -x / torch.tensor([[1.25], [5.0]], dtype=torch.float64)  # of N(0, 1)
    # D is rounded to float32, and the score is (D - x)/sigma².
    torch.testing.assert_close(got.score, expected, rtol=0, atol=4 * 2**-23 * float(x.abs().max()) / 0.25)


def test_a_class_is_handed_on_and_only_when_it_is_given() -> None:
    def function(x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        mean = torch.zeros(len(x)) if cond is None else cond.double()
        return mean.unsqueeze(1) + (x - mean.unsqueeze(1)) / (1 + sigma**2).unsqueeze(1)

    field = Field.of_denoiser(function, LinearVE(), (2,))
    x, t = torch.zeros(2, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    assert field(x, t, torch.tensor([1, 2])).denoised[:, 0].tolist() == [0.5, 1.0]
    assert field(x, t).denoised[:, 0].tolist() == [0.0, 0.0]


def test_the_constructors_are_no_members_of_the_protocol() -> None:
    """A field of somebody's own, with the four members and the call, is a field without them."""
    model = ScoreModel(MLP((2,), width=8), EDM(), VE(), (2,))
    assert isinstance(model, Field) and not isinstance(model, EnergyField) and not hasattr(model, "of_denoiser")
    assert not isinstance(object(), Field)


# --- wrong readings ---------------------------------------------------------------------------------------------------


@each_case(process={name: PROCESSES[name] for name in ("ve", "vp", "chain", "flow")}, meaning=MEANINGS)
def test_the_test_of_an_output_passes_the_right_one_by_far_and_no_negative_of_it(process: Process, meaning: str) -> None:
    right = elsewhere(process, meaning, lambda u: u)
    field = MADE[meaning](right, process, (2,), noise="t", check=False, **moments(process))
    assert field.missed() < 0.05
    # E[x0 | noise] is the mean of the data, whose sign cannot be seen where it is 0; where alpha² + sigma² = 1 the velocity is
    # nearly a multiple of it.
    if meaning == "denoiser" or (meaning == "velocity" and process not in (VE(0.01, 50.0), LinearVE(), RectifiedFlow())):
        return
    with pytest.raises(ScorefieldError, match=f"its negative fits of_{meaning}"):
        MADE[meaning](lambda x, u: -right(x, u), process, (2,), noise="t", **moments(process))


# Where all is noise some outputs are alike: a score there, and a velocity of a process that has forgotten its data, are nearly
# 0, as the mean of the data is; and on EDM's process the velocity is the noise.
ALIKE = {
    ("ve", "score", "denoiser"),
    ("edm", "score", "denoiser"),
    ("vp", "velocity", "denoiser"),
    ("chain", "velocity", "denoiser"),
}
ALIKE |= {("edm", "noise", "velocity"), ("edm", "velocity", "noise")}


@each_case(process=["edm", "vp"], meaning=MEANINGS, read=MEANINGS)
def test_an_output_that_is_read_as_another_is_refused_with_its_own_meaning(process: str, meaning: str, read: str) -> None:
    noising = PROCESSES[process]
    function = elsewhere(noising, meaning, lambda u: u)
    if meaning == read or (process, meaning, read) in ALIKE:
        MADE[read](function, noising, (2,), noise="t", **moments(noising))
    else:
        with pytest.raises(ScorefieldError, match=f"read as {read}, .* it fits of_{meaning}"):
            MADE[read](function, noising, (2,), noise="t", **moments(noising))


@pytest.mark.parametrize(("told", "given"), [("sigma", "log-sigma"), ("log-snr", "log-sigma")])
def test_a_number_in_another_unit_is_refused_with_the_right_one(told: str, given: str) -> None:
    """The network then takes the noisiest samples for less noisy ones and gives them back nearly as they are."""
    process = LinearVE()
    function = elsewhere(process, "denoiser", lambda u: TIME[told](process, u).clamp(process.t_min, process.t_max))
    with pytest.raises(ScorefieldError, match=f"read as denoiser, .* it fits of_denoiser with noise='{told}'"):
        Field.of_denoiser(function, process, (2,), noise=given, **moments(process))


def test_a_time_that_runs_the_other_way_or_in_other_units_is_refused() -> None:
    vp = VP()
    for wrong in (lambda t: 1 - t, lambda t: t / 1000):
        with pytest.raises(ScorefieldError, match="read as noise, is off by"):
            Field.of_noise(elsewhere(vp, "noise", lambda u: u.clamp(vp.t_min, 1)), vp, (2,), noise=wrong, **moments(vp))


def test_an_output_with_a_learned_variance_or_without_a_tensor_is_refused_in_one_sentence() -> None:
    with pytest.raises(ScorefieldError, match=r"output of shape \(64, 8\) for x of shape \(64, 4\), .* a learned variance$"):
        Field.of_noise(lambda x, t: torch.cat([x, x], dim=1), DDPMChain(), (4,))
    with pytest.raises(ScorefieldError, match=r"got a dict as output, expected a tensor, or an object"):
        Field.of_noise(lambda x, t: {"sample": x}, DDPMChain(), (4,))
    with pytest.raises(ScorefieldError, match=r"unknown noise label 'sigmas': did you mean 'sigma'"):
        Field.of_denoiser(k_diffusion, LinearVE(), (2,), noise="sigmas")


def test_a_mean_of_the_data_far_from_zero_must_be_said_or_the_test_left_out() -> None:
    def pixels(x: Tensor, sigma: Tensor) -> Tensor:
        return 128 + (x - 128) * (60**2 / (60**2 + sigma**2)).unsqueeze(1)

    process = LinearVE(1.0, 2000.0)
    with pytest.raises(ScorefieldError, match=r"correct .* mean and standard deviation of the data; check=False leaves"):
        Field.of_denoiser(pixels, process, (4,))
    said = Field.of_denoiser(pixels, process, (4,), data_mean=128.0, data_std=60.0)
    assert said.data_mean.tolist() == [128.0] * 4 and said.missed() < 1e-20
    Field.of_denoiser(pixels, process, (4,), check=False)


def test_where_the_noisiest_time_is_not_noisy_nothing_can_be_said() -> None:
    assert Field.of_denoiser(lambda x, s: 100 * x, LinearVE(0.01, 2.9), (2,)).missed() == 0.0
    with pytest.raises(ScorefieldError, match="read as denoiser"):
        Field.of_denoiser(lambda x, s: 100 * x, LinearVE(0.01, 3.1), (2,))
    assert math.isclose(Field.of_denoiser(lambda x, s: x, LinearVE(0.01, 3.1), (2,), data_std=2.0).missed(), 0.0)
