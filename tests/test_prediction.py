"""Predictions: whatever a network is asked for, the same x0, noise, score and velocity come back."""

import math

import numpy
import pytest
import torch
from helpers import each_case

from scorefield import (
    EDM,
    VE,
    VP,
    Denoiser,
    Noiseless,
    NoisePrediction,
    Parametrisation,
    Prediction,
    Process,
    RectifiedFlow,
    ScaledScore,
    Score,
    ScorefieldError,
    ScoreModel,
    Tabulated,
    V,
    Velocity,
    registry,
)
from scorefield.nets.mlp import MLP
from scorefield.noise_label import noise_label_of

NEEDS_SETTINGS = {"tabulated": Tabulated.linear(1000)}
PROCESSES = {
    name: NEEDS_SETTINGS[name] if name in NEEDS_SETTINGS else kind() for name, kind in registry.every("process").items()
}
NOISY = {name: process for name, process in PROCESSES.items() if process.t_max > process.t_min}
PARAMETRISATIONS = {name: kind() for name, kind in registry.every("parametrisation").items()}
each_noisy = each_case(process=NOISY)
each = pytest.mark.parametrize("parametrisation", PARAMETRISATIONS.values(), ids=PARAMETRISATIONS)

# What each network is trained to say, in the words of its paper: y as a function of x0, noise, alpha, sigma and sd.
TARGETS = {
    "score": lambda x0, noise, alpha, sigma, sd: -noise / sigma,
    "energy": lambda x0, noise, alpha, sigma, sd: -noise / sigma,  # what the scalar's gradient is matched to, times -1
    "scaled-score": lambda x0, noise, alpha, sigma, sd: -noise,
    "noise": lambda x0, noise, alpha, sigma, sd: noise,
    "denoised": lambda x0, noise, alpha, sigma, sd: x0,
    "v": lambda x0, noise, alpha, sigma, sd: alpha * noise - sigma * x0,
    "velocity": lambda x0, noise, alpha, sigma, sd: noise - x0,
    # Karras et al. (2022), equation 8, with x_t/alpha at level sigma/alpha: (x0 - c_skip·z)/c_out
    "edm": lambda x0, noise, alpha, sigma, sd: (
        (x0 - sd**2 / ((sigma / alpha) ** 2 + sd**2) * (x0 + sigma / alpha * noise))
        / (sigma / alpha * sd / ((sigma / alpha) ** 2 + sd**2).sqrt())
    ),
}  # fmt: skip


def times_of(process: Process) -> torch.Tensor:
    """Five times from the least noise to the most."""
    return process.t_min + torch.tensor([0.0, 0.1, 0.37, 0.8, 1.0], dtype=torch.float64) * (process.t_max - process.t_min)


def column(number: torch.Tensor) -> torch.Tensor:
    return number.reshape(-1, 1, 1, 1)


def truth_at(process: Process) -> tuple[torch.Tensor, ...]:
    """Known x0 and noise for five times, their x_t, and alpha and sigma as columns."""
    t = times_of(process)
    x0, noise = torch.randn(2, 5, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    alpha, sigma = column(process.alpha(t)), column(process.sigma(t))
    return t, x0, noise, alpha * x0 + sigma * noise, alpha, sigma


def assert_within_rounding(got: torch.Tensor, truth: torch.Tensor, size: torch.Tensor, factor: float = 200.0) -> None:
    """The error is a few roundings of `size`, the largest term of the sum that is taken."""
    assert bool(((got - truth).abs() <= factor * 2.3e-16 * size).all()), float(((got - truth).abs() / size).max())


@each_noisy
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_the_exact_output_gives_back_x0_and_noise(name: str, process: Process) -> None:
    parametrisation = PARAMETRISATIONS[name]
    t, x0, noise, x, alpha, sigma = truth_at(process)
    y = TARGETS[name](x0, noise, alpha, sigma, torch.tensor(getattr(parametrisation, "data_std", 1.0)))
    prediction = Prediction(process, x, t, y, *parametrisation.pair(process.alpha(t), process.sigma(t)))
    # Solving the 2x2 system loses what one view does not see: x0 from noise at alpha << sigma, noise from x0 at sigma << alpha.
    assert_within_rounding(prediction.denoised, x0, (x.abs() + sigma * noise.abs() + sigma * y.abs() + 1) / alpha)
    assert_within_rounding(prediction.noise, noise, (x.abs() + alpha * x0.abs() + alpha * y.abs() + 1) / sigma)
    assert torch.equal(prediction.noise, -sigma * prediction.score)


@each_noisy
@each
def test_the_two_coefficients_reproduce_the_output_from_the_views(parametrisation: Parametrisation, process: Process) -> None:
    """y = a·denoised + c·score and x = alpha·denoised - sigma²·score, for any y at all."""
    t, y, _, x, alpha, sigma = truth_at(process)
    a, c = parametrisation.pair(process.alpha(t), process.sigma(t))
    prediction = Prediction(process, x, t, y, a, c)
    denoised, score = prediction.denoised, prediction.score
    size = (column(a) * denoised).abs() + (column(c) * score).abs()
    assert_within_rounding(column(a) * denoised + column(c) * score, y, size)
    assert_within_rounding(alpha * denoised - sigma**2 * score, x, (alpha * denoised).abs() + (sigma**2 * score).abs())


@each_noisy
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_a_parametrisation_is_the_linear_combination_that_its_paper_regresses_on(name: str, process: Process) -> None:
    """Feeding x0 = 1, noise = 0 and the other way round reads off the coefficients of x0 and of the noise, b = -c/sigma."""
    parametrisation, t = PARAMETRISATIONS[name], times_of(process)
    alpha, sigma = process.alpha(t), process.sigma(t)
    a, c = parametrisation.pair(alpha, sigma)
    one, zero, sd = torch.ones_like(t), torch.zeros_like(t), torch.tensor(getattr(parametrisation, "data_std", 1.0))
    of_x0, of_noise = (TARGETS[name](*unit, alpha, sigma, sd) for unit in ((one, zero), (zero, one)))
    ratio = alpha / sigma  # the paper's EDM target subtracts two numbers that agree to (sd·alpha/sigma)² digits
    lost = 1 + (ratio * sd) ** 2 if name == "edm" else one
    assert bool(((a - of_x0).abs() <= 8 * 2.3e-16 * lost * of_x0.abs()).all())
    assert bool(((-c / sigma - of_noise).abs() <= 8 * 2.3e-16 * of_noise.abs()).all())


def test_every_registered_parametrisation_has_its_target_written_down_here() -> None:
    assert set(PARAMETRISATIONS) == set(TARGETS)


# --- identities between the views -------------------------------------------------------------------------------------


@pytest.mark.theorem("tweedie")
@each_noisy
def test_tweedie_holds_between_denoised_score_and_noise(process: Process) -> None:
    """denoised = (x + sigma²·score)/alpha and noise = -sigma·score (not -sigma²·score), from a known score."""
    t, score, _, x, alpha, sigma = truth_at(process)
    prediction = Prediction.of_score(process, x, t, score)
    size = (x.abs() + (sigma**2 * score).abs()) / alpha
    assert_within_rounding(prediction.denoised, (x + sigma**2 * score) / alpha, size)
    assert_within_rounding(prediction.score, score, score.abs())
    assert torch.equal(prediction.noise, -sigma * prediction.score)


@each_noisy
def test_a_known_posterior_mean_gives_the_score_that_points_at_it(process: Process) -> None:
    t, x0, _, x, alpha, sigma = truth_at(process)
    prediction = Prediction.of_denoised(process, x, t, x0)
    assert_within_rounding(prediction.denoised, x0, x0.abs())
    assert_within_rounding(prediction.score, (alpha * x0 - x) / sigma**2, (x.abs() + (alpha * x0).abs()) / sigma**2)


@pytest.mark.theorem("probability-flow", "velocity")
@each_noisy
def test_velocity_is_the_drift_less_half_the_squared_diffusion_times_the_score(process: Process) -> None:
    t, score, _, x, _, sigma = truth_at(process)
    prediction = Prediction.of_score(process, x, t, score)
    f, g = column(process.drift(t)), column(process.diffusion(t))
    alpha_rate, sigma_rate = (column(rate) for rate in process.rates(t))
    size = (alpha_rate * prediction.denoised).abs() + (sigma_rate * sigma * score).abs() + (f * x).abs() + (g**2 * score).abs()
    assert_within_rounding(prediction.velocity, f * x - g**2 * score / 2, size)


@pytest.mark.theorem("velocity")
@each_noisy
def test_velocity_is_the_slope_of_the_straight_path_from_x0_to_the_noise(process: Process) -> None:
    """x(t) = alpha·x0 + sigma·noise moves at alpha'·x0 + sigma'·noise: against central differences of order 6 of the path."""
    t, x0, noise, _, _, _ = truth_at(process)
    t, x0, noise = t[1:4], x0[1:4], noise[1:4]
    h = column(1e-5 * t)

    def path(steps: int) -> torch.Tensor:
        return process.perturb(x0, t + steps * h.flatten(), noise)

    slope = (45 * (path(1) - path(-1)) - 9 * (path(2) - path(-2)) + (path(3) - path(-3))) / (60 * h)
    velocity = Prediction.of_denoised(process, path(0), t, x0).velocity
    scale = x0.abs() + column(process.sigma(t)) * noise.abs() + 1
    assert bool(((velocity - slope).abs() <= 20 * 2.3e-16 * scale / h + 1e-10 * slope.abs()).all())


def test_the_velocity_output_is_the_velocity_of_a_flow() -> None:
    t, _, y, x, _, _ = truth_at(RectifiedFlow())
    prediction = Prediction(RectifiedFlow(), x, t, y, *Velocity().pair(1 - t, t))
    assert_within_rounding(prediction.velocity, y, y.abs() + x.abs() + prediction.denoised.abs() + prediction.noise.abs())


def test_the_v_output_is_the_velocity_of_the_angle_on_a_variance_preserving_process() -> None:
    """With alpha = cos(phi) and sigma = sin(phi), v = d x/d phi: so velocity = v·d phi/dt."""
    process = VP()
    t, _, y, x, _, sigma = truth_at(process)
    prediction = Prediction(process, x, t, y, *V().pair(process.alpha(t), process.sigma(t)))
    angle_rate = -column(process.rates(t)[0]) / sigma
    size = (column(process.rates(t)[0]) * prediction.denoised).abs() + (column(process.rates(t)[1]) * prediction.noise).abs()
    assert_within_rounding(prediction.velocity, angle_rate * y, size + (angle_rate * y).abs())


# --- EDM --------------------------------------------------------------------------------------------------------------


@each_noisy
@pytest.mark.parametrize("sd", [0.5, 1.0, 7.0])
def test_edm_input_and_target_have_unit_variance_and_are_uncorrelated(process: Process, sd: float) -> None:
    """Second moments of linear combinations of x0 (variance sd²) and noise (variance 1): no sampling."""
    t = times_of(process)
    alpha, sigma = process.alpha(t), process.sigma(t)
    a, c = EDM(data_std=sd).pair(alpha, sigma)
    y = torch.stack([a * sd, -c / sigma])  # coordinates on the orthonormal pair (x0/sd, noise)
    x = torch.stack([alpha * sd, sigma]) * EDM(data_std=sd).input_scale(alpha, sigma)
    numpy.testing.assert_allclose((x * x).sum(0), 1, rtol=4e-15)
    numpy.testing.assert_allclose((y * y).sum(0), 1, rtol=4e-15)
    numpy.testing.assert_allclose((x * y).sum(0), 0, atol=4e-15)


@pytest.mark.parametrize("sd", [0.5, 2.0])
def test_edm_at_alpha_one_has_the_skip_and_output_scales_of_karras(sd: float) -> None:
    """D(x) = c_skip·x + c_out·y, read off by y = 0 and by x = 0, and the input scale and label of table 1."""
    process, sigma = VE(0.002, 80.0), [0.002, 0.5, 80.0]
    t = process.time_of_sigma(torch.tensor(sigma, dtype=torch.float64))
    one, zero = torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64)
    pair = EDM(data_std=sd).pair(process.alpha(t), process.sigma(t))
    skip = Prediction(process, one, t, zero, *pair).denoised[:, 0]
    out = Prediction(process, zero, t, one, *pair).denoised[:, 0]
    numpy.testing.assert_allclose(skip, [sd**2 / (s**2 + sd**2) for s in sigma], rtol=1e-13)
    numpy.testing.assert_allclose(out, [s * sd / math.sqrt(s**2 + sd**2) for s in sigma], rtol=1e-13)
    scale = EDM(data_std=sd).input_scale(process.alpha(t), process.sigma(t))
    numpy.testing.assert_allclose(scale, [1 / math.sqrt(s**2 + sd**2) for s in sigma], rtol=1e-13)
    numpy.testing.assert_allclose(noise_label_of("log-sigma", process, t), [math.log(s) for s in sigma], rtol=1e-13)


@each_noisy
def test_the_denoiser_sees_an_input_of_unit_variance(process: Process) -> None:
    t, sd = times_of(process), 3.0
    alpha, sigma = process.alpha(t), process.sigma(t)
    scale = Denoiser(data_std=sd).input_scale(alpha, sigma)
    numpy.testing.assert_allclose(scale**2 * (alpha**2 * sd**2 + sigma**2), 1, rtol=4e-15)


# --- labels -----------------------------------------------------------------------------------------------------------


@each_noisy
def test_labels_are_the_time_the_noise_to_signal_ratio_or_its_logarithm(process: Process) -> None:
    t = times_of(process)
    ratio = (process.sigma(t) / process.alpha(t)).numpy()
    assert torch.equal(noise_label_of("t", process, t), t)
    numpy.testing.assert_allclose(noise_label_of("sigma", process, t), ratio, rtol=1e-13)
    numpy.testing.assert_allclose(noise_label_of("log-sigma", process, t), numpy.log(ratio), rtol=1e-13, atol=1e-14)


@each_noisy
def test_a_label_of_levels_is_its_index_noisiest_first(process: Process) -> None:
    from scorefield import geometric

    assert noise_label_of(10, process, geometric(process, 10)).tolist() == list(range(10))


@each_noisy
@pytest.mark.parametrize("kind", [Score, ScaledScore, EDM, V])
def test_between_two_levels_the_clean_data_of_the_nearer_one_are_kept(kind: type, process: Process) -> None:
    """D(x_t, t) = D(x_t·alpha_r/alpha, r) for the level r: what the network means by the pair at r is what is shown at t."""
    from scorefield import geometric

    parametrisation, steps = kind(noise_label=6), geometric(process, 6)
    level = (process.sigma(steps) / process.alpha(steps)).log()
    t = process.time_of_sigma((level[:-1] + 0.4 * level.diff()).exp())  # nearer to the noisier of the two
    r, y = steps[:-1], torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)
    x = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)
    model = ScoreModel(Recorder(y).double(), parametrisation, process, (3,))
    model.network.answer.data = y
    with torch.no_grad():
        prediction = model(x, t)
    x_r = x * (process.alpha(r) / process.alpha(t))[:, None]
    pair = parametrisation.pair(process.alpha(r), process.sigma(r))
    meant = Prediction(process, x_r, r, y.expand(5, 3), *pair).denoised
    size = x.abs() / (process.alpha(t))[:, None] + meant.abs() + (process.sigma(r) ** 2 / process.alpha(r))[:, None] * y.abs()
    assert bool(((prediction.denoised - meant).abs() <= 1e-12 * size).all())
    assert model.network.seen[1].tolist() == [0, 1, 2, 3, 4]


# --- the ends of the range --------------------------------------------------------------------------------------------


class Repeats(Parametrisation):
    """y = x_t itself."""

    noise_label = "t"

    def pair(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return alpha, -(sigma**2)

    def input_scale(self, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(alpha)


@each_noisy
def test_an_output_that_only_repeats_x_is_refused_with_a_sentence(process: Process) -> None:
    t, _, _, x, _, _ = truth_at(process)
    prediction = Prediction(process, x, t, x, *Repeats().pair(process.alpha(t), process.sigma(t)))
    sentence = r"repeats x_t and so says nothing about the score; expected alpha·c \+ sigma²·a"
    with pytest.raises(ScorefieldError, match=sentence):
        prediction.check()
    with pytest.raises(ScorefieldError, match=sentence):
        ScoreModel(MLP((3,)), Repeats(), process, (3,))


class Crossing(Repeats):
    """y = x0 - c·score with a determinant that changes its sign at sigma² = alpha/2, between any two times of a grid."""

    def pair(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(alpha), -torch.full_like(alpha, 0.5)


def test_a_pair_that_is_ill_posed_between_two_times_is_refused_when_the_model_is_made() -> None:
    with pytest.raises(ScorefieldError, match=r"whose output repeats x_t somewhere between t = 0\.512695 and 0\.513672"):
        ScoreModel(MLP((3,)), Crossing(), VE(0.01, 40.0), (3,))
    ScoreModel(MLP((3,)), Crossing(), VE(0.8, 50.0), (3,))  # here it is well-posed


@pytest.mark.parametrize("name", PARAMETRISATIONS)
@each_noisy
def test_every_parametrisation_is_well_posed_on_every_process_with_noise(name: str, process: Process) -> None:
    PARAMETRISATIONS[name].check(process)


@each
@each_noisy
def test_the_views_with_one_time_for_all_samples_are_those_with_one_for_each(
    parametrisation: Parametrisation, process: Process
) -> None:
    """Bit for bit; also where they were looked at before it was said, and in the precision of x."""
    for dtype in (torch.float32, torch.float64):
        x, output = (torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(k)).to(dtype) for k in (1, 2))
        t = torch.full((4,), 0.3 * process.t_min + 0.7 * process.t_max, dtype=torch.float64)
        pair = parametrisation.pair(process.alpha(t), process.sigma(t))
        each_of, one = (Prediction(process, x, t, output, *pair) for _ in range(2))
        assert one.check().with_one_time() is one
        for name in ("alpha", "sigma", "denoised", "score", "noise", "velocity"):
            found, expected = getattr(one, name), getattr(each_of, name)
            assert found.shape == expected.shape and found.dtype == expected.dtype
            assert torch.equal(found, expected), name


def test_a_view_does_not_wait_for_the_device() -> None:
    """On the meta device every read of a value raises, as a read on a GPU would wait."""
    x, t = torch.empty(4, 3, device="meta"), torch.empty(4, device="meta")
    prediction = Prediction(RectifiedFlow(), x, t, x, t, t)
    for view in (prediction.score, prediction.denoised, prediction.noise):
        assert view.shape == (4, 3)


def test_the_refusal_names_the_sample_whose_output_is_ill_posed() -> None:
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    a, c = torch.tensor([1.0, 0.3], dtype=torch.float64), torch.tensor([0.0, -0.49], dtype=torch.float64)
    x = torch.zeros(2, 1, dtype=torch.float64)
    with pytest.raises(ScorefieldError, match=r"a = 0\.3, c = -0\.49 at alpha = 0\.3, sigma = 0\.7"):
        Prediction(RectifiedFlow(), x, t, x, a, c).check()


@pytest.mark.parametrize("kind", [Score, V])
def test_without_noise_a_score_is_still_a_score_and_x_is_already_clean(kind: type) -> None:
    x, score = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.zeros(4, dtype=torch.float64)
    a, c = kind().pair(Noiseless().alpha(t), Noiseless().sigma(t))
    if kind is V:  # v = noise at sigma = 0, which says nothing about x0 or the score
        with pytest.raises(ScorefieldError, match="says nothing about the score"):
            Prediction(Noiseless(), x, t, score, a, c).check()
        return
    prediction = Prediction(Noiseless(), x, t, score, a, c)
    assert torch.equal(prediction.score, score)
    assert torch.equal(prediction.denoised, x)
    assert bool((prediction.noise == 0).all())
    assert bool((prediction.velocity == 0).all())


@pytest.mark.parametrize("kind", [ScaledScore, NoisePrediction, Denoiser, EDM])
def test_without_noise_every_other_output_is_refused_for_it_holds_no_score(kind: type) -> None:
    x, t = torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ScorefieldError, match="says nothing about the score"):
        Prediction(Noiseless(), x, t, x, *kind().pair(Noiseless().alpha(t), Noiseless().sigma(t))).check()
    with pytest.raises(ScorefieldError, match="says nothing about the score"):
        ScoreModel(MLP((1,)), kind(), Noiseless(), (1,))


# --- a network as a field ---------------------------------------------------------------------------------------------


class Recorder(torch.nn.Module):
    """A network that remembers what it is given and answers with a fixed number, in single precision."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = torch.nn.Parameter(answer.float())

    def forward(self, x: torch.Tensor, label: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        self.seen = (x, label, cond)
        return self.answer.expand_as(x)


@each_noisy
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_a_score_model_gives_back_x0_when_its_network_gives_the_exact_output(name: str, process: Process) -> None:
    """Within single precision, the network's own; and the views keep the caller's double precision."""
    parametrisation = PARAMETRISATIONS[name]
    t, x0, noise, x, alpha, sigma = truth_at(process)
    y = TARGETS[name](x0, noise, alpha, sigma, torch.tensor(getattr(parametrisation, "data_std", 1.0)))
    model = ScoreModel(Recorder(y), parametrisation, process, (1, 2, 3))
    with torch.no_grad():
        prediction = model(x, t)
    rounding = 4 * numpy.finfo(numpy.float32).eps
    assert bool(
        ((prediction.denoised - x0).abs() <= rounding * (x.abs() + sigma * noise.abs() + sigma * y.abs() + 1) / alpha).all()
    )
    assert prediction.denoised.dtype == torch.float64
    scaled, label, cond = model.network.seen
    scale = column(parametrisation.input_scale(process.alpha(t), process.sigma(t)))
    assert torch.equal(scaled, (scale * x).float())
    assert torch.equal(label, noise_label_of(parametrisation.noise_label, process, t).float())
    assert cond is None


class Shrink(torch.nn.Module):
    """A network without a single number of its own."""

    def forward(self, x: torch.Tensor, label: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        return -x


def test_a_network_without_parameters_is_a_field_in_the_precision_of_its_caller() -> None:
    model = ScoreModel(Shrink(), Score(), VE(0.01, 10.0), (2,))
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([[0.1, -3.0]], dtype=dtype)
        assert torch.equal(model(x, torch.ones(1)).score, -x)


def test_a_network_of_buffers_alone_computes_in_their_precision() -> None:
    class Fixed(Shrink):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("index", torch.zeros(1, dtype=torch.int64))
            self.register_buffer("scale", torch.ones(1))

        def forward(self, x: torch.Tensor, label: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
            assert x.dtype == label.dtype == torch.float32
            return -self.scale * x

    x = torch.tensor([[0.1, -3.0]], dtype=torch.float64)
    assert torch.equal(ScoreModel(Fixed(), Score(), VE(0.01, 10.0), (2,))(x, torch.ones(1)).score, -x.float().double())


@pytest.mark.theorem("scaled-score")
def test_a_network_that_is_not_given_the_noise_gives_the_same_output_at_every_level() -> None:
    """NCSNv2's technique 3: s(x, sigma) = y(x)/sigma, so sigma·score is one function of x."""
    model = ScoreModel(MLP((2,)), ScaledScore(noise_label="none"), VE(0.01, 10.0), (2,)).double()
    torch.nn.init.normal_(model.network.last.weight)
    x = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
    with torch.no_grad():
        low, high = (model(x, torch.full((2,), t, dtype=torch.float64)) for t in (0.1, 0.9))
    assert float(low.score.abs().min()) > 0
    torch.testing.assert_close(low.sigma[:, None] * low.score, high.sigma[:, None] * high.score, rtol=1e-12, atol=0)
