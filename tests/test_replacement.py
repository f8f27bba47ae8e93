"""Filling in: conditionals of Gaussians and mixtures are known in closed form, and so is how wrong plain replacement is.

Every field here is exact, so what differs from the closed form is the method's doing: for `fill_in` nothing that 5 standard
errors see, for `Replacement` what its docstring says.
"""

import math
from typing import Any

import pytest
import torch
from scipy.integrate import solve_ivp

from scorefield import VE, VP, Gaussian, GaussianMixture, NotFinite, Process, SampleRng, ScorefieldError, geometric, registry
from scorefield.guidance import Replacement, fill_in
from scorefield.samplers import (
    ABM,
    DDIM,
    Ancestral,
    Annealed,
    DPMSolver,
    Heun,
    Langevin,
    Mala,
    PredictorCorrector,
    Sampler,
    StochasticABM,
    simulate,
)
from scorefield.verification.affine import Scripted

NAN = math.nan
MEAN = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 2.0]], dtype=torch.float64)
PATTERNS = [[2.0, NAN, NAN], [NAN, 1.5, NAN], [NAN, NAN, 0.5], [NAN, 1.5, -3.0], [0.0, NAN, -2.0], [2.0, 1.5, NAN], [NAN] * 3]
SHARES, CENTRES, WIDTH = (0.7, 0.3), (-2.0, 2.0), 0.7


def conditional(known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the missing coordinates of N(MEAN, COVARIANCE) given the others."""
    m = known.isnan()
    gain = COVARIANCE[m][:, ~m] @ torch.linalg.inv(COVARIANCE[~m][:, ~m])
    return MEAN[m] + gain @ (known - MEAN)[~m], COVARIANCE[m][:, m] - gain @ COVARIANCE[~m][:, m]


def modes(process: Process) -> GaussianMixture:
    return GaussianMixture(SHARES, [[-2.0, -1.0], [2.0, 1.0]], [WIDTH, WIDTH], process)


def share_given(y: float) -> float:
    """Of the second mode, given that the first coordinate is y: Bayes' rule for two Gaussians of one width."""
    first, second = (w * math.exp(-0.5 * ((y - m) / WIDTH) ** 2) for w, m in zip(SHARES, CENTRES, strict=True))
    return second / (first + second)


def rows(values: list[float], count: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).expand(count, len(values))


def last(*args: Any, **how: Any) -> torch.Tensor:
    *_, snapshot = simulate(*args, **how)
    return snapshot.x


# --- what is filled in is drawn from the conditional ------------------------------------------------------------------


@pytest.mark.theorem("gaussian-conditional")
@pytest.mark.parametrize("process", [VE(0.01, 20.0), VP()], ids=["ve", "vp"])
def test_any_missing_part_of_a_gaussian_has_the_conditional_mean_and_covariance(process: Process) -> None:
    n, field = 300, Gaussian(MEAN, COVARIANCE, process)
    known = torch.cat([rows(pattern, n) for pattern in PATTERNS])
    found = fill_in(field, known, rng=SampleRng(range(len(known))))
    assert torch.equal(found.x[~known.isnan()], known[~known.isnan()])
    assert torch.equal(found.mean[~known.isnan()], known[~known.isnan()])
    for pattern, x, means in zip(PATTERNS, found.x.split(n), found.mean.split(n), strict=True):
        at = torch.tensor(pattern, dtype=torch.float64)
        mean, covariance = conditional(at)
        x, means, variance = x[:, at.isnan()], means[:, at.isnan()], covariance.diagonal()
        assert bool(((x.mean(dim=0) - mean).abs() < 5 * (variance / n).sqrt()).all()), pattern
        assert bool(((means.mean(dim=0) - mean).abs() < 5 * (means.var(dim=0) / n).sqrt()).all()), pattern
        got = torch.cov(x.T).reshape(covariance.shape)
        error = ((covariance**2 + variance[:, None] * variance) / n).sqrt()
        assert bool(((got - covariance).abs() < 5 * error).all()), pattern


@pytest.mark.parametrize("y", [0.3, -0.2])
def test_the_modes_of_a_mixture_get_the_shares_that_bayes_gives_them(y: float) -> None:
    n, share = 1500, share_given(y)
    x = fill_in(modes(VE(0.01, 20.0)), rows([y, NAN], n), rng=SampleRng(range(n))).x[:, 1]
    mean = 2 * share - 1
    variance = WIDTH**2 + 1 - mean**2
    fourth = sum(w * (WIDTH**4 * 3 + 6 * WIDTH**2 * d**2 + d**4) for w, d in ((1 - share, -1 - mean), (share, 1 - mean)))
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n)
    assert abs(float(x.var()) - variance) < 5 * math.sqrt((fourth - variance**2) / n)
    upper = (1 - share) * 0.5 * math.erfc(1 / WIDTH / math.sqrt(2)) + share * 0.5 * math.erfc(-1 / WIDTH / math.sqrt(2))
    assert abs(float((x > 0).double().mean()) - upper) < 5 * math.sqrt(upper * (1 - upper) / n)


def test_without_weights_and_moves_the_shares_are_wrong() -> None:
    """The same function with one particle is plain replacement along a path: a control that the bounds above can fail."""
    n, share = 1500, share_given(0.3)
    x = fill_in(modes(VE(0.01, 20.0)), rows([0.3, NAN], n), rng=SampleRng(range(n)), particles=1, moves=0).x[:, 1]
    assert abs(float(x.mean()) - (2 * share - 1)) > 20 * math.sqrt((WIDTH**2 + 4 * share * (1 - share)) / n)


def test_the_mean_over_particles_scatters_less_than_a_draw() -> None:
    """By the law of total variance: around E[x | y], a draw has Var[x | y], the mean of K draws less."""
    n = 400
    found = fill_in(Gaussian(MEAN, COVARIANCE, VE(0.01, 20.0)), rows([2.0, NAN, NAN], n), rng=SampleRng(range(n)), particles=16)
    assert bool((found.mean[:, 1:].var(dim=0) < found.x[:, 1:].var(dim=0)).all())
    assert bool((found.effective >= 1).all() and (found.effective <= 16).all())


def test_images_are_filled_in_as_their_coordinates_are() -> None:
    n = 300
    flat, image = Gaussian(MEAN, COVARIANCE, VE(0.01, 20.0)), Gaussian(MEAN.reshape(1, 1, 3), COVARIANCE, VE(0.01, 20.0))
    known = torch.cat([rows(pattern, n // 3) for pattern in PATTERNS[:3]])
    one = fill_in(flat, known, rng=SampleRng(range(n)), levels=20, particles=4).x
    other = fill_in(image, known.reshape(n, 1, 1, 3), rng=SampleRng(range(n)), levels=20, particles=4).x
    torch.testing.assert_close(other.reshape(n, 3), one, rtol=1e-9, atol=1e-9)


# --- a sample owns its seed -------------------------------------------------------------------------------------------


def test_a_sample_is_the_same_in_any_company() -> None:
    field, known = Gaussian(MEAN, COVARIANCE, VE(0.01, 20.0)), torch.tensor(PATTERNS, dtype=torch.float64)
    together = fill_in(field, known, rng=SampleRng(range(len(known))), levels=30, particles=4)
    for i in range(len(known)):
        alone = fill_in(field, known[i : i + 1], rng=SampleRng([i]), levels=30, particles=4)
        torch.testing.assert_close(alone.x[0], together.x[i], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(alone.mean[0], together.mean[i], rtol=1e-9, atol=1e-9)
    other = fill_in(field, known, rng=SampleRng(range(50, 50 + len(known))), levels=30, particles=4)
    assert bool((other.x != together.x)[known.isnan()].all())


def test_with_nothing_missing_nothing_changes() -> None:
    field = Gaussian(MEAN, COVARIANCE, VE(0.01, 20.0))
    assert torch.equal(fill_in(field, rows([1.0, 2.0, 3.0], 2), rng=SampleRng([0, 1]), levels=5).x, rows([1.0, 2.0, 3.0], 2))


# --- plain replacement: quick, and wrong by what is known -------------------------------------------------------------


def found_by_replacement(rho: float, pull: float = 1.0) -> float:
    """The factor r in E[m] = r·y that replacement ends with on N(0, [[1, rho], [rho, 1]]) in the limit of many levels.

    The mean of what it does is linear: dm/dlog(lambda²) = pull·(m - E[z0 | m, y]), from lambda = 1000 down to 0.01, with pull
    1/2 for the probability flow, 1 for the reverse SDE, and more by strength/2 for a Langevin corrector.
    """

    def slope(log_level: float, r: Any) -> Any:
        up, down = ((1 + s * rho) / (1 + s * rho + math.exp(log_level)) for s in (1, -1))
        return pull * (r - (up + down) / 2 * r - (up - down) / 2)

    return float(solve_ivp(slope, [2 * math.log(1000), 2 * math.log(0.01)], [0.0], rtol=1e-9, atol=1e-12).y[0, -1])


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_replacement_follows_what_is_known_too_little_by_a_known_amount(rho: float) -> None:
    n, field = 4000, Gaussian([0.0, 0.0], [[1.0, rho], [rho, 1.0]], VE(0.01, 1000.0))
    known = rows([2.0, NAN], n)
    x = last(field, Replacement(Ancestral(), known), geometric(field.process, 400), rng=SampleRng(range(n)))[:, 1]
    error = 5 * float(x.std()) / math.sqrt(n)
    assert abs(float(x.mean()) - 2 * found_by_replacement(rho)) < error + 0.01  # 400 levels are not many: 0.008
    assert 2 * rho - float(x.mean()) > error  # and that is not the conditional mean


FLOW, SDE = 0.5, 1.0
PULL = {  # of every registered sampler that jumps and does not remember; a new one is to be entered here
    "adaptive": FLOW,
    "ancestral": SDE,
    "consistent": SDE,
    "ddim": FLOW,
    "euler": FLOW,
    "euler-maruyama": SDE,
    "heun": FLOW,
    "predictor-corrector": SDE + 0.5,
    "reverse-diffusion": SDE,
}
KINDS: dict[str, Any] = {name: kind() for name, kind in registry.every("sampler").items()}
ACCEPTED = {name: sampler for name, sampler in KINDS.items() if not sampler.remembers}
MORE = {
    "abm of one value": (ABM(1), FLOW),
    "ancestral with beta": (Ancestral("transition"), SDE),
    "ddim, eta 0.6": (DDIM(eta=0.6), FLOW * (1 + 0.6**2)),
    "dpm-solver++ sde of one value": (DPMSolver(1, eta=1.0), SDE),
    "heun with churn": (Heun(churn=1e-9), FLOW),
    "predictor-corrector over heun": (PredictorCorrector(Heun(), strength=3.0), FLOW + 1.5),
    "stochastic-abm of one value": (StochasticABM(past=1), SDE),
}
JUMPING = {name: (sampler, PULL[name]) for name, sampler in ACCEPTED.items() if not sampler.dwells} | MORE


def mean_by_replacement(sampler: Sampler, rho: float, y: float, ladder: torch.Tensor, process: Process) -> float:
    """E[m] without Monte Carlo: every step is affine in x and in the noise, so the run of the means without noise is it."""
    field, known = Gaussian([0.0, 0.0], [[1.0, rho], [rho, 1.0]], process), torch.tensor([[y, NAN]], dtype=torch.float64)
    start = torch.zeros(1, 2, dtype=torch.float64)
    return float(last(field, Replacement(sampler, known), ladder, start, rng=Scripted(1), denoise=False)[0, 1])


@pytest.mark.parametrize(("sampler", "pull"), JUMPING.values(), ids=JUMPING)
def test_every_sampler_that_jumps_follows_what_is_known_as_much_as_its_equation_says(sampler: Any, pull: float) -> None:
    """From 100 and 200 levels to infinitely many: without the error of first order in their distance, a tenth is left."""
    process, limit = VE(0.01, 1000.0), 2 * found_by_replacement(0.8, pull)
    coarse, fine = (
        mean_by_replacement(sampler.at_fixed_steps(), 0.8, 2.0, geometric(process, 1 + n), process) for n in (100, 200)
    )
    assert abs(fine - limit) < 0.03 < 0.1 < min(abs(limit - 2 * found_by_replacement(0.8, p)) for p in (0.25, 4.0))
    assert abs(2 * fine - coarse - limit) < abs(fine - limit) / 10 + 1e-3


def test_every_sampler_that_dwells_leads_to_the_conditional_mean() -> None:
    """Langevin steps on m alone have the mean of p_t(m | y) as their fixed point: rho·y/(1 + lambda²) at level lambda."""
    process, lowest = VE(0.3, 20.0), torch.zeros(1, dtype=torch.float64)
    truth = 0.8 * 2.0 / (1 + 0.3**2)
    assert {name for name, sampler in ACCEPTED.items() if sampler.dwells} == {"annealed", "langevin", "mala"}
    assert math.isclose(mean_by_replacement(Langevin(tau=0.1, steps=200), 0.8, 2.0, lowest, process), truth, rel_tol=1e-9)
    held = mean_by_replacement(Annealed(60, eps=0.04), 0.8, 2.0, geometric(process, 20), process)
    assert math.isclose(held, truth, rel_tol=1e-3)
    n, off = 4000, []
    field, known = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], process), rows([2.0, NAN], 4000)
    for tau in (0.4, 0.02):  # its test is of y and m together, and so is not quite that of m: an error of the order of tau
        sampler = Replacement(Mala(tau=tau, steps=round(10 / tau**0.5)), known)
        x = last(field, sampler, lowest, known.nan_to_num(truth), rng=SampleRng(range(n)), denoise=False)[:, 1]
        off.append(abs(float(x.mean()) - truth))
    assert off[1] < 5 * math.sqrt((1 - 0.8**2 / 1.09 + 0.09) / n)
    assert off[1] < off[0]


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ACCEPTED])
def test_a_sampler_that_remembers_is_refused_with_the_names_of_those_that_do_not(name: str) -> None:
    with pytest.raises(ScorefieldError, match="remembers states that replacement changes") as refusal:
        Replacement(KINDS[name], rows([2.0, NAN], 3))
    assert str(refusal.value).split("use ")[1].split(", ") == list(ACCEPTED)
    assert "\n" not in str(refusal.value)


def test_what_wraps_a_sampler_that_remembers_is_refused_as_it_is() -> None:
    with pytest.raises(ScorefieldError, match=r"got PredictorCorrector\(sampler=ABM.*remembers states"):
        Replacement(PredictorCorrector(ABM()), rows([2.0, NAN], 3))


def test_known_values_are_one_row_per_sample() -> None:
    """A single row would be shared by all samples without a word."""
    field = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.01, 20.0))
    for count in (1, 2, 4):
        with pytest.raises(
            ScorefieldError, match=rf"got observed values of shape \({count}, 2\) and samples of shape \(3, 2\)"
        ):
            last(field, Replacement(Ancestral(), rows([2.0, NAN], count)), geometric(field.process, 4), rng=SampleRng(range(3)))
    with pytest.raises(ScorefieldError, match="got infinite observed values"):
        Replacement(Ancestral(), rows([math.inf, NAN], 3))


def test_repeating_the_steps_brings_replacement_nearer_the_truth() -> None:
    n, field = 4000, Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.01, 20.0))
    known, ladder = rows([2.0, NAN], n), geometric(field.process, 50)
    off = [
        abs(float(last(field, Replacement(Ancestral(), known, repeats), ladder, rng=SampleRng(range(n)))[:, 1].mean()) - 1.6)
        for repeats in (1, 2, 5)
    ]
    error = 5 * 0.6 * math.sqrt(2 / n)
    assert off[0] - off[1] > error and off[1] - off[2] > error


def test_replacement_works_with_a_dwelling_sampler_as_well() -> None:
    """Langevin steps on everything with the known put back: nearer the truth than chance, and each sample its own."""
    n, field = 500, Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.01, 20.0))
    known, ladder = rows([2.0, NAN], n), geometric(field.process, 20)
    x = last(field, Replacement(Annealed(steps_per_level=5), known), ladder, rng=SampleRng(range(n)))
    assert float(x[:, 1].mean()) > 0.5
    some = last(field, Replacement(Annealed(steps_per_level=5), known[7:9]), ladder, rng=SampleRng([7, 8]))
    torch.testing.assert_close(some, x[7:9], rtol=1e-9, atol=1e-9)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals_say_what_to_do() -> None:
    field = Gaussian(MEAN, COVARIANCE, VE(0.01, 20.0))
    known = rows([1.0, NAN, 3.0], 2)
    for how in ({"particles": 0}, {"levels": 1}, {"moves": -1}):
        with pytest.raises(ScorefieldError, match=rf"got {next(iter(how))} = .*, expected at least \d: ask for more"):
            fill_in(field, known, rng=SampleRng([0, 1]), **how)
    with pytest.raises(ScorefieldError, match="expected finite numbers of shape"):
        fill_in(field, known, rng=SampleRng([0]))
    with pytest.raises(ScorefieldError, match="got 0 samples to fill in, expected at least one"):
        fill_in(field, known[:0], rng=SampleRng([]))
    with pytest.raises(ScorefieldError, match="expected finite numbers of shape"):
        fill_in(field, rows([math.inf, NAN, 3.0], 2), rng=SampleRng([0, 1]))
    with pytest.raises(ScorefieldError, match="got 0 repeats, expected at least 1"):
        Replacement(Ancestral(), known, 0)
    with pytest.raises(ScorefieldError, match="remembers states that replacement changes"):
        last(field, Replacement(ABM(), known), geometric(field.process, 5), rng=SampleRng([0, 1]))


def test_a_field_that_gives_nan_is_named_with_its_level() -> None:
    class Broken(Gaussian):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Any:
            return super().__call__(x * torch.where(t < 1.0, NAN, 1.0)[:, None], t, cond)

    with pytest.raises(NotFinite, match=r"at t = 0\.\d+ while filling in"):
        fill_in(Broken(MEAN, COVARIANCE, VE(0.01, 20.0)), rows([1.0, NAN, 3.0], 2), rng=SampleRng([0, 1]))
