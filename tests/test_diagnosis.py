"""The diagnosis of a field: exact fields have nothing to report, and every fault that is built in is found where it is."""

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor

from scorefield import VE, VP, Gaussian, GaussianMixture, NotFinite, SampleRng, ScorefieldError, geometric, pictures
from scorefield.diagnosis import Diagnosis, diagnose
from scorefield.field import Field
from scorefield.prediction import Prediction
from scorefield.process import Process
from scorefield.shapes import over

NEAR = VE(0.05, 20.0)
VARIANCES = [1.0, 4.0, 0.25]
GAUSSIAN = Gaussian([0.5, -1.0, 0.0], torch.diag(torch.tensor(VARIANCES)), NEAR)
MIXTURE = GaussianMixture([0.6, 0.4], [[-2.0, 0.0], [2.0, 1.0]], [0.5, 0.8], NEAR)


def of(field: Gaussian | GaussianMixture, n: int, stream: int) -> Tensor:
    x0: Tensor = field.sample(SampleRng(range(n), stream=stream))
    return x0


class Bent:
    """A field whose score is factor·another's + shift + turning·(x turned by a quarter), above some level of noise."""

    def __init__(self, field: Field, factor: float = 1.0, shift: float = 0.0, turning: float = 0.0, above: float = 0.0) -> None:
        self.field, self.process, self.shape = field, field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std
        self.factor, self.shift, self.turning, self.above = factor, shift, turning, above

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        true = self.field(x, t, cond).score
        bent = self.factor * true + self.shift
        if self.turning:
            bent = bent + self.turning * torch.stack([-x[:, 1], x[:, 0]], dim=1)
        hit = over((self.process.sigma(t) > self.above).double(), x) > 0
        return Prediction.of_score(self.process, x, t, torch.where(hit, bent, true))


# --- an exact field has nothing to report -----------------------------------------------------------------------------


@pytest.mark.theorem("denoising-constant")
@pytest.mark.parametrize("process", [NEAR, VP()])
def test_the_loss_of_a_gaussian_is_the_share_of_the_signal_in_the_variance_of_every_axis(process: Process) -> None:
    """Var(noise | x_t) = alpha²·v/(alpha²·v + sigma²), an axis of variance v."""
    field = Gaussian([0.5, -1.0, 0.0], torch.diag(torch.tensor(VARIANCES)), process)
    found = diagnose(field, of(field, 1000, 1), of(field, 1000, 2), levels=5, examples=1000)
    for j, ratio in enumerate(found.noise):
        expected = sum(v / (v + ratio**2) for v in VARIANCES) / 3
        assert abs(found.training[j] - expected) < 5 * found.training_error[j]
        assert abs(found.held_out[j] - expected) < 5 * found.held_out_error[j]


@pytest.mark.theorem("denoising-constant")
@pytest.mark.parametrize("field", [GAUSSIAN, MIXTURE])
def test_an_exact_field_is_calibrated_has_no_curl_and_stands_out_nowhere(field: Gaussian | GaussianMixture) -> None:
    found = diagnose(field, of(field, 1000, 1), of(field, 1000, 2), levels=8, examples=1000)
    for value, error in zip(found.calibration, found.calibration_error, strict=True):
        assert abs(value - 1) < 5 * error
    assert max(found.curl) < 1e-4  # central differences of step sigma/100 leave its square
    assert found.worst is None
    assert found.sentence == "no level stands out: training and held-out loss agree and the score has the right length"


def test_calibration_is_the_sum_of_the_loss_and_of_the_squared_guess() -> None:
    """The estimate with the smaller error is of what the name says: E‖sigma·s + noise‖²/d + E‖sigma·s‖²/d."""
    field, x0 = Bent(GAUSSIAN, factor=1.3), of(GAUSSIAN, 1000, 2)
    found = diagnose(field, x0, x0, levels=3, examples=1000)
    for j, t in enumerate(geometric(NEAR, 3)):
        times = t.expand(1000)
        eps = SampleRng(range(1000), stream=99).normal((3,))
        x = NEAR.perturb(x0, times, eps)
        guess = field(x, times).noise
        both = ((guess - eps) ** 2 + guess**2).mean(dim=1)
        error = math.hypot(float(both.std()) / math.sqrt(1000), found.calibration_error[j])
        assert abs(float(both.mean()) - found.calibration[j]) < 5 * error


# --- a fault is found where it is -------------------------------------------------------------------------------------


@pytest.mark.theorem("wrong-length")
@pytest.mark.parametrize(("factor", "fault"), [(1.2, "long"), (0.8, "short")])
def test_a_score_of_the_wrong_length_has_the_calibration_and_the_cost_of_the_formula(factor: float, fault: str) -> None:
    """With N = E‖n‖²/d of the true guess: calibration 1 + 2·c·(c - 1)·N, and the right length saves (c - 1)²·N of the loss."""
    found = diagnose(Bent(GAUSSIAN, factor), of(GAUSSIAN, 1000, 1), of(GAUSSIAN, 1000, 2), levels=6, examples=1000)
    for j, ratio in enumerate(found.noise):
        known = sum(ratio**2 / (v + ratio**2) for v in VARIANCES) / 3
        off = 2 * factor * (factor - 1) * known
        assert abs(found.calibration[j] - 1 - off) < 5 * found.calibration_error[j]
        slope = found.calibration_error[j] * abs(factor - 1) / factor  # of (calibration - 1)²/(4·c²·N)
        assert abs(found.miscalibrated[j] - (factor - 1) ** 2 * known) < 5 * slope + 0.05 * (factor - 1) ** 2 * known
    assert f"the score is too {fault}" in found.sentence


def test_the_level_that_is_wrong_is_the_one_that_is_named() -> None:
    found = diagnose(Bent(GAUSSIAN, factor=1.5, above=5.0), of(GAUSSIAN, 500, 1), of(GAUSSIAN, 500, 2), levels=8)
    assert found.worst is not None
    assert found.noise[found.worst] > 5
    assert found.sentence.startswith(f"worst at noise level {found.noise[found.worst]:.3g}: the score is too long")


def test_the_error_against_the_exact_field_is_sigma_squared_times_the_squared_shift() -> None:
    found = diagnose(Bent(GAUSSIAN, shift=0.3), of(GAUSSIAN, 100, 1), of(GAUSSIAN, 100, 2), levels=5, exact=GAUSSIAN)
    assert found.exact_error is not None
    for ratio, error in zip(found.noise, found.exact_error, strict=True):  # alpha = 1
        assert error == pytest.approx(0.09 * ratio**2, rel=1e-9)
    assert found.worst == 0
    assert "above that of the exact field" in found.sentence
    same = diagnose(GAUSSIAN, of(GAUSSIAN, 100, 1), of(GAUSSIAN, 100, 2), levels=5, exact=GAUSSIAN)
    assert same.exact_error == [0.0] * 5
    assert (same.worst, same.sentence) == (None, "no level stands out: the field is the exact one")


def test_a_rotation_in_the_score_is_seen_as_curl() -> None:
    """J = -I/(v + sigma²) + w·R with R a quarter turn: ‖(J - Jᵀ)/2‖/‖J‖ = w/sqrt(w² + 1/(v + sigma²)²)."""
    round_ = Gaussian([0.0, 0.0], torch.eye(2), NEAR)
    found = diagnose(Bent(round_, turning=0.5), of(round_, 200, 1), of(round_, 200, 2), levels=3)
    for ratio, value, error in zip(found.noise, found.curl, found.curl_error, strict=True):
        expected = 0.5 / math.hypot(0.5, 1 / (1 + ratio**2))
        assert abs(value - expected) < 5 * error + 0.1  # of four pairs of directions each: a mean of roots is a little low
    assert "its curl reaches" in found.sentence


# --- learning by heart ------------------------------------------------------------------------------------------------


def test_the_training_set_by_heart_attains_the_optimum_to_the_last_digit_and_fails_on_held_out_examples() -> None:
    train, held_out = of(MIXTURE, 60, 1), of(MIXTURE, 400, 2)
    by_heart = GaussianMixture.empirical(train, NEAR)
    found = diagnose(by_heart, train, held_out, levels=6)
    assert found.optimum == found.training
    assert found.training[-1] < 1 < found.held_out[-1]  # where it pulls new points to old ones, worse than knowing nothing
    assert found.worst is not None
    assert "held-out examples have a loss of" in found.sentence
    assert "where the training set by heart has" in found.sentence


def test_no_field_beats_the_optimum_on_the_training_set() -> None:
    train = of(MIXTURE, 60, 1)
    for field in (MIXTURE, Bent(MIXTURE, factor=1.1), Gaussian([0.0, 0.0], torch.eye(2), NEAR)):
        found = diagnose(field, train, of(MIXTURE, 60, 2), levels=6)
        assert found.optimum is not None
        for best, loss, error in zip(found.optimum, found.training, found.training_error, strict=True):
            assert best < loss + 5 * error


def test_with_labels_the_optimum_knows_the_class_and_the_field_is_given_it() -> None:
    """Two classes of one point each: given the class, nothing of the noise is left to guess."""
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    cond = torch.arange(40) % 2

    class Conditional(Bent):
        def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
            assert cond is not None
            return Prediction.of_denoised(self.process, x, t, points[cond])

    field = Conditional(MIXTURE)
    found = diagnose(field, points[cond], points[cond], labels=(cond, cond), levels=4)
    assert found.optimum is not None
    assert max(found.optimum + found.training + found.held_out) < 1e-20
    without = diagnose(GaussianMixture.empirical(points, NEAR), points[cond], points[cond], levels=4)
    assert without.optimum is not None
    assert max(without.optimum) > 0.05  # where the noise is as large as the distance the class is unknown


def test_an_optimum_that_costs_too_much_is_left_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefield.diagnosis.AFFORDABLE", 100)
    found = diagnose(GAUSSIAN, of(GAUSSIAN, 50, 1), of(GAUSSIAN, 50, 2), levels=2)
    assert found.optimum is None
    assert found.sentence.endswith("; the memorising optimum of 150 numbers was left out as too costly")


def test_blocks_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, held_out = of(MIXTURE, 90, 1), of(MIXTURE, 70, 2)
    whole = diagnose(MIXTURE, train, held_out, levels=3)
    monkeypatch.setattr("scorefield.diagnosis.ENTRIES", 300)
    monkeypatch.setattr("scorefield.diagnosis.BATCH", 7)
    parts = diagnose(MIXTURE, train, held_out, levels=3)
    assert whole.optimum is not None
    assert parts.optimum == pytest.approx(whole.optimum, rel=1e-12)
    assert parts.held_out == pytest.approx(whole.held_out, rel=1e-12)


# --- what comes out, and what is refused ------------------------------------------------------------------------------


def test_images_and_given_levels_are_as_good_and_the_result_is_json() -> None:
    field = Gaussian(torch.zeros(4).tolist(), torch.eye(4), NEAR)

    class Square(Bent):
        def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
            return Prediction.of_score(self.process, x, t, self.field(x.flatten(1), t).score.reshape(x.shape))

    square = Square(field)
    square.shape = (1, 2, 2)
    x0 = of(field, 100, 1).reshape(-1, 1, 2, 2)
    found = diagnose(square, x0, x0, levels=geometric(NEAR, 4)[1:3])
    assert found.noise == pytest.approx(NEAR.sigma(geometric(NEAR, 4))[1:3].tolist(), rel=1e-12)
    plain = diagnose(field, x0.flatten(1), x0.flatten(1), levels=geometric(NEAR, 4)[1:3])
    assert found.training == pytest.approx(plain.training, rel=1e-12)
    assert Diagnosis(**json.loads(json.dumps(dataclasses.asdict(found))) | {"examples": found.examples}) == found


def test_what_cannot_be_diagnosed_is_refused_in_a_sentence() -> None:
    x0 = of(GAUSSIAN, 10, 1)
    with pytest.raises(ScorefieldError, match=r"got 1 held-out examples .* expected at least 2"):
        diagnose(GAUSSIAN, x0, x0[:1])
    with pytest.raises(ScorefieldError, match=r"got 10 training examples of shape \(2,\)"):
        diagnose(GAUSSIAN, x0[:, :2], x0)
    with pytest.raises(NotFinite, match="in the training at noise level 20"):
        diagnose(Bent(GAUSSIAN, factor=math.nan), x0, x0)


def test_the_picture_has_a_panel_for_the_losses_and_one_for_every_other_measure() -> None:
    found = diagnose(MIXTURE, of(MIXTURE, 50, 1), of(MIXTURE, 50, 2), levels=4)
    losses = {"training": found.training, "held-out": found.held_out}
    one = {"curl": (found.curl, found.curl_error)}
    two = {**one, "calibration": (found.calibration, found.calibration_error)}
    plots = [pictures.diagnosis(found.noise, losses, measures, "a field") for measures in (one, two, two)]
    assert plots[0].height < plots[1].height
    assert plots[1].tobytes() == plots[2].tobytes()


def test_the_optimum_knows_classes_of_which_no_example_is_looked_at() -> None:
    """Ten classes of one point each and two examples looked at: each has its own point as its optimum, whose loss is 0."""
    x = GAUSSIAN.sample(SampleRng(range(10)))
    found = diagnose(GAUSSIAN, x, of(GAUSSIAN, 10, 1), labels=(torch.arange(10), torch.arange(10)), levels=3, examples=2)
    assert found.optimum is not None and max(found.optimum) < 1e-12
