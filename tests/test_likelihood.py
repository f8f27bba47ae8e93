"""Likelihood: log-densities as in closed form for every shape and process, honest errors, units, and bounds that bound."""

import math
from typing import Any

import pytest
import torch

from scorefield import (
    VE,
    VP,
    Gaussian,
    GaussianMixture,
    Prediction,
    Process,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    Tabulated,
    geometric,
)
from scorefield.bound import bound
from scorefield.data import Normaliser
from scorefield.field import ScoreModel
from scorefield.likelihood import (
    Exact,
    Hutchinson,
    bits_per_dim,
    data_log_prob,
    dequantise,
    elbo,
    grey_levels,
    log_prob,
    raw_nats,
)
from scorefield.nets.mlp import MLP
from scorefield.prediction import EDM

FAR = {
    "ve": VE(0.05, 1000.0),
    "vp": VP(beta_max=30.0),
    "flow": RectifiedFlow(),
}  # so far up that the Gaussian prior is exact to 1e-5
SHAPES = [(2,), (8,), (32,), (1, 4, 4), (3, 2, 2), (1, 2, 4, 2)]


def mixture(shape: tuple[int, ...], process: Process, seed: int = 0) -> GaussianMixture:
    return GaussianMixture([0.5, 0.3, 0.2], 1.5 * SampleRng(range(3), stream=seed).normal(shape), [0.3, 0.5, 0.8], process)


def points(field: Any, n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy data at t_min, and their times."""
    rng = SampleRng(range(n), stream=seed)
    t = torch.full((n,), field.process.t_min, dtype=torch.float64)
    return field.process.perturb(field.sample(rng), t, rng.normal(field.shape)), t


# --- the log-density --------------------------------------------------------------------------------------------------


@pytest.mark.theorem("instantaneous-change-of-variables")
# Every shape, and every process with vectors and with images.
@pytest.mark.parametrize(
    ("process", "shape"),
    [("ve", shape) for shape in SHAPES] + [(name, shape) for name in ("vp", "flow") for shape in ((8,), (3, 2, 2))],
    ids=str,
)
def test_a_mixture_has_its_log_density_to_a_ten_thousandth_of_a_nat_in_every_shape(
    process: str, shape: tuple[int, ...]
) -> None:
    field = mixture(shape, FAR[process])
    x, t = points(field, 3)
    found = log_prob(field, x, rng=SampleRng(range(3)), tolerance=1e-6, within=None)
    assert float((found.value - field.log_prob(x, t)).abs().max()) < 1e-4
    assert found.t == field.process.t_min
    assert bool((found.standard_error == 0).all())


class LastAxisOnly(Exact):
    """The mistake of public libraries: the trace over the last axis of an image, here by hiding the other rows."""

    def columns(self, output: torch.Tensor, x: torch.Tensor, probes: torch.Tensor | None) -> torch.Tensor:
        seen = torch.zeros_like(output)
        seen[..., 0, :] = 1
        return Exact().columns(output * seen, x, probes)


def test_a_trace_over_the_last_axis_of_an_image_would_be_seen() -> None:
    field = mixture((1, 4, 4), FAR["ve"])
    x, t = points(field, 2)
    wrong = log_prob(field, x, rng=SampleRng(range(2)), divergence=LastAxisOnly(), tolerance=1e-4, within=None).value
    assert float((wrong - field.log_prob(x, t)).abs().min()) > 1


def test_the_density_is_that_of_the_time_asked_for() -> None:
    field = mixture((2,), FAR["vp"])
    x, _ = points(field, 3)
    for t in (0.1, 0.5):
        found = log_prob(field, x, t, rng=SampleRng(range(3)), tolerance=1e-6, within=None).value
        assert float((found - field.log_prob(x, torch.full((3,), t, dtype=torch.float64))).abs().max()) < 1e-4


def test_data_see_the_density_of_x_over_alpha() -> None:
    """z = x/alpha has density p_t(alpha·z)·alpha^d: a Gaussian of variance v + lambda² again."""
    process = FAR["vp"]
    t = 0.4
    now = torch.tensor(t, dtype=torch.float64)
    variance = 2.0 + float((process.sigma(now) / process.alpha(now)) ** 2)
    x0 = SampleRng(range(4)).normal((3,))
    found = data_log_prob(Gaussian([0.0] * 3, 2.0 * torch.eye(3), process), x0, t, rng=SampleRng(range(4)), tolerance=1e-7)
    expected = -0.5 * (x0.square().sum(1) / variance + 3 * math.log(2 * math.pi * variance))
    assert float((found.value - expected).abs().max()) < 1e-5
    assert math.isclose(found.smoothing**2, variance - 2.0, rel_tol=1e-12)


def test_the_error_of_the_gaussian_prior_falls_with_the_square_of_the_top_level_and_the_true_prior_has_none() -> None:
    gaps = []
    for top in (10.0, 100.0):
        field = Gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 0.25]], VE(0.05, top))
        x, t = points(field, 4)
        how: dict[str, Any] = {"rng": SampleRng(range(4)), "tolerance": 1e-7, "within": None}
        gaps.append(float((log_prob(field, x, **how).value - field.log_prob(x, t)).abs().mean()))
        assert float((log_prob(field, x, prior=field.log_prob, **how).value - field.log_prob(x, t)).abs().max()) < 1e-5
    assert 80 < gaps[0] / gaps[1] < 120


@pytest.mark.parametrize("variance", [4.0, 0.0], ids=["a gaussian", "one point"])
def test_data_that_are_the_reference_gaussian_cost_next_to_nothing(variance: float) -> None:
    """In whitened coordinates they stand still: the solver takes its longest steps from end to end."""
    field = Gaussian([3.0, -1.0], variance * torch.eye(2), VE(0.05, 1000.0))
    x, t = points(field, 4)
    found = log_prob(field, x, rng=SampleRng(range(4)), tolerance=1e-10, within=None)
    assert float((found.value - field.log_prob(x, t)).abs().max()) < 1e-9
    assert int(found.evaluations.max()) <= 1 + 6 * 4


# --- the solver -------------------------------------------------------------------------------------------------------


def test_the_reported_error_covers_the_true_one_and_an_answer_that_moves_is_refused() -> None:
    field = mixture((8,), FAR["ve"])
    x, t = points(field, 8)
    found = log_prob(field, x, rng=SampleRng(range(8)), tolerance=1e-5, prior=field.log_prob)
    assert bool(((found.value - field.log_prob(x, t)).abs() <= found.error).all())
    assert 0 < float(found.error.max()) < 0.1
    with pytest.raises(ScorefieldError, match=r"nats between tolerances 0.1 and 0.01, expected at most 1e-09"):
        log_prob(field, x, rng=SampleRng(range(8)), tolerance=1e-2, within=1e-9)


def test_an_example_does_not_depend_on_its_batch() -> None:
    field = mixture((2, 2), FAR["ve"])
    x, _ = points(field, 3)
    how: dict[str, Any] = {"divergence": Hutchinson(3), "tolerance": 1e-3, "within": None}
    together = log_prob(field, x, rng=SampleRng(range(3)), **how)
    for i in range(3):
        alone = log_prob(field, x[i : i + 1], rng=SampleRng([i]), **how)
        assert math.isclose(float(alone.value[0]), float(together.value[i]), rel_tol=1e-10)
        assert alone.evaluations[0] == together.evaluations[i]


def test_what_has_no_flow_to_the_prior_is_refused() -> None:
    field = mixture((2,), FAR["vp"])
    x, rng = torch.zeros(2, 2, dtype=torch.float64), SampleRng(range(2))
    for t in (-1.0, 1.0):
        with pytest.raises(ScorefieldError, match="expected a time in"):
            log_prob(field, x, t, rng=rng)
    with pytest.raises(ScorefieldError, match=r"expected .2, 2.: one seed per point"):
        log_prob(field, x[:1], rng=rng)
    with pytest.raises(TypeError, match="unexpected keyword argument 'tolerence'"):
        log_prob(field, x, rng=rng, tolerence=1e-3)  # type: ignore[call-arg]


# --- the trace --------------------------------------------------------------------------------------------------------

SKEWED = [[3.0, 1.5, 0.0], [1.5, 1.0, 0.2], [0.0, 0.2, 0.5]]  # a covariance far from diagonal: random traces vary


@pytest.mark.theorem("hutchinson-trace")
@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_hutchinsons_estimate_is_unbiased_and_its_standard_error_covers(kind: Any) -> None:
    n, count = 400, 6
    field = Gaussian([0.0, 1.0, 0.0], SKEWED, FAR["ve"])
    x, t = points(field, 1)
    found = log_prob(
        field,
        x.expand(n, -1),
        rng=SampleRng(range(n)),
        divergence=Hutchinson(count, kind),
        tolerance=1e-4,
        within=None,
    )
    gap = found.value - field.log_prob(x, t)
    se = float(gap.std()) / math.sqrt(n)
    assert abs(float(gap.mean())) < 5 * se + 1e-2  # and the solver's own error
    assert float(gap.std()) > 0.1  # not by luck: the estimate does vary
    # The mean reported variance is the variance found; the spread of a variance of n draws is about sqrt(kurtosis/n) of it.
    reported, actual = float(found.standard_error.square().mean()), float(gap.var())
    squares = (gap - gap.mean()) ** 2
    bound_ = 5 * math.hypot(float(squares.std()), float(found.standard_error.square().std())) / math.sqrt(n)
    assert abs(reported - actual) < bound_ < actual  # a factor of two would be seen


def test_rademacher_probes_are_exact_where_the_jacobian_is_diagonal_and_a_single_probe_knows_no_error() -> None:
    field = Gaussian([0.0, 1.0], [[4.0, 0.0], [0.0, 0.3]], FAR["flow"])
    x, t = points(field, 3)
    found = log_prob(field, x, rng=SampleRng(range(3)), divergence=Hutchinson(1), tolerance=1e-7)
    assert float((found.value - field.log_prob(x, t)).abs().max()) < 1e-4
    assert bool(found.standard_error.isnan().all())


@pytest.mark.theorem("hutchinson-trace")
def test_hutchinsons_estimate_varies_by_twice_the_squares_off_the_diagonal_and_on_it_too_for_normal_vectors() -> None:
    """All eight sign vectors of three coordinates are tried: nothing is random."""
    jacobian = torch.tensor([[3.0, 1.0, -2.0], [0.5, -1.0, 0.0], [4.0, 0.3, 2.0]], dtype=torch.float64)
    symmetric = (jacobian + jacobian.mT) / 2
    off = 2 * float((symmetric**2).sum() - (symmetric.diagonal() ** 2).sum())
    x = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)[None]
    found = Hutchinson(8).columns(x @ jacobian.mT, x, signs)
    assert math.isclose(float(found.mean()), 4.0, rel_tol=1e-12)
    assert math.isclose(float(found.var(correction=0)), off, rel_tol=1e-12)

    n, normal = 20_000, Hutchinson(1, "gaussian")
    x = torch.zeros(n, 3, dtype=torch.float64, requires_grad=True)
    found = normal.columns(x @ jacobian.mT, x, normal.probes((3,), SampleRng(range(n))))[:, 0]
    squares = (found - 4.0) ** 2
    assert abs(float(found.mean()) - 4.0) < 5 * float(found.std()) / math.sqrt(n)
    whole = off + 2 * float((symmetric.diagonal() ** 2).sum())
    assert abs(float(squares.mean()) - whole) < 5 * float(squares.std()) / math.sqrt(n) < whole - off


@pytest.mark.theorem("instantaneous-change-of-variables")
def test_a_float32_network_has_a_density_that_integrates_to_one() -> None:
    """One coordinate, trained on nothing: whatever the network, the flow carries N(0, 1) to a normalised density."""
    torch.manual_seed(1)
    network = MLP((1,), width=16, depth=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = ScoreModel(network, EDM(data_std=1.0), VE(0.3, 20.0), (1,))
    grid = torch.linspace(-12, 12, 241, dtype=torch.float64)[:, None]
    found = log_prob(model, grid, rng=SampleRng(range(241)), tolerance=1e-4, within=None)
    mass = torch.trapezoid(found.value.exp(), grid[:, 0])
    assert abs(float(mass) - 1) < 2e-3
    assert float((found.value - log_prob_of_normal(grid, 1.09)).abs().max()) > 0.1  # and it is not the Gaussian one


def log_prob_of_normal(x: torch.Tensor, variance: float) -> torch.Tensor:
    return -0.5 * (x[:, 0] ** 2 / variance + math.log(2 * math.pi * variance))


# --- units ------------------------------------------------------------------------------------------------------------


class SmoothedUniform:
    """U(-1, 1) in every coordinate plus noise, exactly: p = (Phi((1 + x)/sigma) - Phi((x - 1)/sigma))/2."""

    def __init__(self, shape: tuple[int, ...], process: Process) -> None:
        self.process, self.shape = process, shape
        self.data_mean, self.data_std = torch.zeros(shape, dtype=torch.float64), math.sqrt(1 / 3)

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
        sigma = self.process.sigma(t).reshape(-1, *[1] * (x.ndim - 1))
        # 1 + |x| and 1 - |x|: by symmetry both tails are the left one, where Phi keeps its digits
        up, down = (1 + x.abs()) / sigma, (x.abs() - 1) / sigma
        log_mass = torch.special.log_ndtr(-down) + torch.log1p(
            -torch.exp(torch.special.log_ndtr(-up) - torch.special.log_ndtr(-down))
        )
        ends = [torch.exp(-0.5 * z**2 - log_mass) / math.sqrt(2 * math.pi) for z in (up, down)]
        return Prediction.of_score(self.process, x, t, x.sign() * (ends[0] - ends[1]) / sigma)


@pytest.mark.theorem("bits-per-dim")
@pytest.mark.parametrize("name", ["[0, 1]", "[-1, 1]", "pixels"])
def test_a_uniform_on_256_values_scores_eight_bits_a_dimension(name: str) -> None:
    """Textbook maps send [0, 256) to [0, 1) (+8) or [-1, 1) (+7); ours sends the values 0 and 255 to -1 and 1."""
    maps = {
        "[0, 1]": Normaliser(shift=(-0.5,), scale=(256.0,), low=0.0, high=255.0),
        "[-1, 1]": Normaliser(shift=(127.5,), scale=(128.0,), low=0.0, high=255.0),
        "pixels": Normaliser.between(0.0, 255.0),
    }
    normaliser = maps[name]
    raw = (SampleRng(range(4)).uniform((1, 2, 2)) * 256).floor().to(torch.uint8)
    spread = dequantise(raw, SampleRng(range(4), stream=1))
    assert bool(((spread - raw).abs() <= 0.5).all())
    field = SmoothedUniform((1, 2, 2), VE(1e-3, 500.0))
    # the uniform's own place: [-1/2, 255.5) at [-1, 1), whose density in each map's coordinates differs by its scale
    x = ((spread - 127.5) / 128).clamp(-0.99, 0.99)
    in_uniform = log_prob(field, x, rng=SampleRng(range(4)), tolerance=1e-6, within=None).value
    in_model = in_uniform + 4 * math.log(normaliser.scale[0] / 128)
    found = bits_per_dim(in_model, raw, normaliser)
    assert float((found - 8).abs().max()) < 5e-4
    added = {"[0, 1]": 8.0, "[-1, 1]": 7.0, "pixels": math.log2(127.5)}[name]
    assert float((found - (added - in_model / (4 * math.log(2)))).abs().max()) < 1e-12


@pytest.mark.theorem("dequantisation")
def test_dequantised_values_have_the_mass_of_their_bin_as_their_mean_density_and_a_smaller_mean_log_density() -> None:
    """Of N(100, 2²) on whole numbers: the mass of a bin by its distribution function."""
    n, field = 4000, Gaussian([100.0], [[4.0 - 1e-12]], VE(1e-6, 1.0))
    for value in (97, 100, 104):
        spread = dequantise(torch.full((n, 1), value, dtype=torch.uint8), SampleRng(range(n)))
        logs = field.log_prob(spread, torch.zeros(n, dtype=torch.float64))
        edges = torch.special.ndtr((torch.tensor([value - 0.5, value + 0.5], dtype=torch.float64) - 100.0) / 2.0)
        mass = float(edges[1] - edges[0])
        assert abs(float(logs.exp().mean()) - mass) < 5 * float(logs.exp().std()) / math.sqrt(n)
        below = math.log(mass) - float(logs.mean())
        assert below > (5 * float(logs.std()) / math.sqrt(n) if value != 100 else 0)  # where it hardly bends, hardly


def test_bits_of_anything_but_8_bit_data_are_refused() -> None:
    value = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(ScorefieldError, match=r"real-valued data.*unit of measurement.*report nats"):
        bits_per_dim(value, torch.zeros(1, 3), Normaliser(shift=(0.0,), scale=(1.0,)))
    with pytest.raises(ScorefieldError, match=r"17 grey levels.*report nats"):
        bits_per_dim(value, torch.zeros(1, 1, 8, 8, dtype=torch.uint8), Normaliser.between(0.0, 16.0))
    assert grey_levels(torch.zeros(1, 3), Normaliser.between(0.0, 1.0)) is None


@pytest.mark.theorem("bits-per-dim")
def test_rescaling_the_data_changes_nats_by_the_logarithm_of_the_scales_and_nothing_else() -> None:
    """The same data measured in other units, standardised by each their own map: the raw densities differ by the units."""
    centre, units = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([1000.0, 0.01], dtype=torch.float64)
    raw = centre + torch.tensor([2.0, 0.5], dtype=torch.float64) * SampleRng(range(4)).normal((2,))
    field = mixture((2,), FAR["ve"])
    nats = []
    for unit in (torch.ones(2, dtype=torch.float64), units):
        normaliser = Normaliser(shift=tuple((centre * unit).tolist()), scale=tuple((torch.tensor([2.0, 0.5]) * unit).tolist()))
        x = normaliser.encode(raw * unit).double()
        nats.append(raw_nats(log_prob(field, x, rng=SampleRng(range(4)), within=None).value, normaliser, (2,)))
    assert float((nats[0] - nats[1] - math.log(1000.0 * 0.01)).abs().max()) < 1e-3
    one = Normaliser(shift=(0.0,), scale=(8.0,))  # one scale counts for every coordinate of an image
    assert math.isclose(float(raw_nats(torch.zeros(1, dtype=torch.float64), one, (1, 8, 8))), -64 * math.log(8))


# --- the bound --------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("elbo-snr")
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)], ids=str)
def test_the_bound_is_below_the_log_density_on_average_and_tightens(shape: tuple[int, ...], continuous: bool) -> None:
    field, n = mixture(shape, VE(0.01, 100.0)), 1500
    x0 = field.sample(SampleRng(range(n), stream=1))
    truth = field.log_prob(x0, torch.zeros(n, dtype=torch.float64))  # 0.01 of noise on a std of 0.3 moves it by 0.001
    gaps, errors = [], []
    for levels in (40, 160):
        found = elbo(field, x0, geometric(field.process, levels), rng=SampleRng(range(n), stream=2), continuous=continuous)
        gap = truth - found.value
        gaps.append(float(gap.mean()))
        errors.append(float(gap.std()) / math.sqrt(n))
        assert gaps[-1] > -5 * errors[-1]
        assert torch.allclose(found.value, found.decoder - found.diffusion - found.prior)
    if continuous:
        assert abs(gaps[1]) < 5 * errors[1] + 0.01 * math.prod(shape)  # nothing is left but the decoder's smoothing
    else:
        assert gaps[0] / gaps[1] > 3  # the price of coarse levels falls like 1/levels: by four, less the statistical error
        assert gaps[1] > 5 * errors[1]


def test_a_worse_field_has_a_lower_bound() -> None:
    field, n = mixture((2,), VE(0.01, 100.0)), 500
    x0 = field.sample(SampleRng(range(n), stream=1))
    wrong = GaussianMixture([0.2, 0.3, 0.5], field.means.reshape(3, 2), [0.3, 0.5, 0.8], field.process)
    ladder = geometric(field.process, 50)
    both = [elbo(one, x0, ladder, rng=SampleRng(range(n), stream=2), continuous=True).value for one in (field, wrong)]
    gap = both[0] - both[1]
    assert float(gap.mean()) > 5 * float(gap.std()) / math.sqrt(n)


@pytest.mark.theorem("elbo-snr")
def test_the_parts_of_the_bound_are_those_of_ddpms_chain() -> None:
    """On DDPM's own steps the sum by differences of SNR is the sum of KLs of `bound`, but for the decoder's variance."""
    process = Tabulated.linear(200, 1e-3, 0.1)
    field, n = mixture((3,), process), 400
    x0 = field.sample(SampleRng(range(n), stream=1))
    ladder = torch.arange(200, 0, -1, dtype=torch.float64)
    ours = elbo(field, x0, ladder, rng=SampleRng(range(n), stream=2))
    theirs = bound(field, x0, rng=SampleRng(range(n), stream=3))  # its decoder has the variance v_2, ours lambda_1²
    a, s = process.alpha(torch.tensor([1.0, 2.0]).double()), process.sigma(torch.tensor([1.0, 2.0]).double())
    v2 = (s[1] ** 2 - (a[1] / a[0]) ** 2 * s[0] ** 2) * s[0] ** 2 / s[1] ** 2
    lam2 = s[0] ** 2 / a[0] ** 2
    square = -2 * lam2 * (ours.decoder + 1.5 * math.log(2 * math.pi * lam2))
    decoder = -0.5 * square / v2 - 1.5 * math.log(2 * math.pi * v2)
    gap = -theirs - (decoder - ours.diffusion - ours.prior)
    assert abs(float(gap.mean())) < 5 * float(gap.std()) / math.sqrt(n)
    assert 5 * float(gap.std()) / math.sqrt(n) < 0.25 * float(ours.diffusion.mean())  # a factor of two would be seen


def test_on_a_grid_the_decoder_gives_probabilities_that_sum_to_one() -> None:
    """One coordinate on 17 levels: the decoder's masses over all levels, at the same draw of the noise, are a distribution."""
    normaliser = Normaliser.between(0.0, 16.0)
    field = GaussianMixture([0.5, 0.5], [[-0.8], [0.3]], [0.2, 0.1], VE(0.05, 10.0))
    levels = normaliser.encode(torch.arange(17.0)[:, None]).double()

    class Deaf:
        """A field that answers as if x were always the same, so that only the decoded value differs."""

        process, shape, data_mean, data_std = field.process, field.shape, field.data_mean, field.data_std

        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Prediction:
            return Prediction.of_denoised(self.process, x, t, torch.full_like(x, 0.21))

    found = elbo(Deaf(), levels, geometric(field.process, 2), rng=SampleRng(range(17)), grid=normaliser)
    assert abs(float(found.decoder.exp().sum()) - 1) < 1e-12
    assert bool(found.decoder.isfinite().all())
    assert int(found.decoder.argmax()) == round(0.21 * 8 + 8)


def test_a_ladder_that_rises_has_no_bound() -> None:
    field = mixture((2,), VE())
    with pytest.raises(ScorefieldError, match="do not fall strictly"):
        elbo(field, torch.zeros(1, 2), geometric(field.process, 5).flip(0), rng=SampleRng([0]))
