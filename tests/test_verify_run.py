"""Is this model sound? Exact networks pass at the stated rate, and every mistake that is planted in them is caught and named.

An exact network is a mixture's own field behind the interface of a network: it takes an input and a label, and gives the noise,
v, the clean data or the score of the process that it was "trained" under. What is claimed of it is a `ScoreModel` around it.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefield import VE, VP, DDPMChain, Gaussian, GaussianMixture, Process, RectifiedFlow, SampleRng, ScorefieldError, app
from scorefield.cli import main
from scorefield.evaluation.soundness import soundness_of
from scorefield.field import ScoreModel
from scorefield.prediction import EDM, NoisePrediction, Parametrisation, V, Velocity
from scorefield.runs import open_run
from scorefield.shapes import over
from scorefield.verification.calibration import FALSE_ALARM, calibrate, critical_of
from scorefield.verification.mistakes import gross, shifts, units
from scorefield.verification.readings import Reading, evidence, measure, ratios_of, widths
from scorefield.verification.soundness import Soundness, examine, times_to_measure

LINEAR, SHORT = DDPMChain(1000), DDPMChain(100, 1e-3, 0.2)
NOISE = NoisePrediction(noise_label="t")


def mixture(process: Process) -> GaussianMixture:
    return GaussianMixture([0.5, 0.3, 0.2], [[-1.0, 0.5], [1.0, 1.0], [0.2, -1.0]], [0.1, 0.2, 0.15], process)


DATA = mixture(LINEAR).sample(SampleRng(range(1000)))
FEW = DATA[:300]


class Exact(nn.Module):
    """A mixture's field under its own process as a network that is told the time, or ln(sigma/alpha)."""

    def __init__(self, truth: GaussianMixture, gives: str = "noise", told: str = "t") -> None:
        super().__init__()
        self.truth, self.gives, self.told = truth, gives, told

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        process = self.truth.process
        t = process.time_of_sigma(label.double().exp()) if self.told == "log-sigma" else label.double()
        t = t.clamp(process.t_min, process.t_max)
        found = self.truth(x.double(), t)
        alpha, sigma = over(process.alpha(t), x), over(process.sigma(t), x)
        given = {
            "noise": lambda: found.noise,
            "denoised": lambda: found.denoised,
            "score": lambda: found.score,
            "v": lambda: alpha * found.noise - sigma * found.denoised,
            "velocity": lambda: found.noise - found.denoised,
        }
        return given[self.gives]().to(x.dtype)


class Bent(nn.Module):
    """A network with a mistake before or behind it."""

    def __init__(
        self, network: nn.Module, label: Callable[[Tensor], Tensor] = lambda v: v, y: Callable[[Tensor], Tensor] = lambda v: v
    ) -> None:
        super().__init__()
        self.network, self.label, self.y = network, label, y

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.y(self.network(x, self.label(label), cond))


def claimed(network: nn.Module, process: Process = LINEAR, meaning: Parametrisation = NOISE, **more: Any) -> ScoreModel:
    truth = mixture(process)
    return ScoreModel(network, meaning, process, (2,), truth.data_mean, truth.data_std, **more).eval()


RIGHT = claimed(Exact(mixture(LINEAR)))


# --- what is right passes ---------------------------------------------------------------------------------------------


def test_of_an_exact_score_each_test_fails_at_its_stated_rate() -> None:
    """Levels are of independent noise; the three tests of one are averaged. The variance of Student's t of n is n/(n - 2)."""
    field = mixture(VE(0.05, 20.0))
    model = ScoreModel(Exact(field), NOISE, field.process, (2,)).eval()
    limit, found = critical_of(1, 96, 0.05), []
    data, noises = (field.sample(SampleRng(range(96 * 140))), SampleRng(range(96 * 140), stream=1).normal((5, 2)))
    for seed in range(140):
        rows = slice(96 * seed, 96 * seed + 96)
        for j, t in enumerate((1.0, 0.75, 0.5, 0.25, 0.0)):
            row, _ = calibrate(Reading("", "", model), data[rows], t, noises[rows, j], None, limit)
            found.append(row.deviations)
    z = torch.tensor(found, dtype=torch.float64)
    failed = (z.abs() > limit).double().mean(dim=1)
    for values, expected in ((failed, 0.05), ((z**2).mean(dim=1), 95 / 93)):
        assert abs(float(values.mean()) - expected) < 5 * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize(
    "field",
    [
        mixture(LINEAR),
        mixture(VP()),
        Gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 2.0]], VE(0.01, 50.0)),
        RIGHT,
        claimed(Exact(mixture(RectifiedFlow()), "velocity"), RectifiedFlow(), Velocity(noise_label="t")),
    ],
    ids=["mixture, chain", "mixture, vp", "gaussian, ve", "network", "flow"],
)
def test_an_exact_field_is_sound(field: Any) -> None:
    truth = field if isinstance(field, Gaussian) else mixture(LINEAR)
    found = examine(field, truth.sample(SampleRng(range(5000, 6000))))
    assert (found.verdict, found.mistakes, found.failures) == ("sound", (), [])
    assert not any(row.certain for row in found.levels)


def test_the_evidence_of_a_gaussian_is_minus_its_information_beyond_an_isotropic_one() -> None:
    """KL(N(0, diag(v)) | N(0, mean v)) = ½·(log mean v - mean log v), a coordinate, for a process that reaches both ends."""
    v = torch.tensor([0.25, 4.0], dtype=torch.float64)
    field = Gaussian([0.0, 0.0], torch.diag(v), VE(1e-3, 1e3))
    model = ScoreModel(Exact(field), NOISE, field.process, (2,)).eval()  # type: ignore[arg-type]
    ratios = ratios_of(field.process, torch.linspace(1, 0, 60, dtype=torch.float64))
    x0 = field.sample(SampleRng(range(2000)))
    noises = torch.stack([SampleRng(range(2000), stream=j + 1).normal((2,)) for j in range(60)])
    nats = evidence(measure(Reading("", "", model), x0, ratios, noises, None), ratios)
    expected = -0.5 * float(v.mean().log() - v.log().mean())
    assert abs(float(nats.mean()) - expected) < 5 * float(nats.std()) / math.sqrt(len(nats))
    assert math.isclose(float(widths(ratios).sum()), 2 * math.log(1e6))


def test_an_undertrained_field_is_not_called_a_mistake() -> None:
    """Its guess is of no use where the noise is small: of trained runs it has a slope of 0.1 there and a loss of 1 to 4."""

    class Vague(Exact):
        def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
            y, process = super().forward(x, label, cond), self.truth.process
            small = over((process.sigma(label.double()) / process.alpha(label.double()) < 0.05).double(), x)
            rough = 0.4 * torch.sin(7 * x.flip(1) + 3 * x)
            return (1 - small) * (0.97 * y + 0.05 * rough) + small * (0.3 * y + 5 * rough)

    found = examine(claimed(Vague(mixture(LINEAR))), FEW)
    assert found.levels[-1].slope < 0.5
    assert found.levels[-1].loss > 2
    assert found.evidence > 0
    assert found.tried > 20
    assert (found.verdict, found.mistakes) == ("sound", ())
    assert "learned little" in found.reasons[1]


# --- what is wrong is caught and named --------------------------------------------------------------------------------

COSINE, SCALED = DDPMChain(1000, kind="cosine"), DDPMChain(1000, 8.5e-4, 0.012, "scaled-linear")
LOG = NoisePrediction(noise_label="log-sigma")
PLANTED: dict[str, tuple[Callable[[], ScoreModel], str, str]] = {
    "sign": (lambda: claimed(Bent(Exact(mixture(LINEAR)), y=lambda y: -y)), "wrong sign", "change the sign"),
    "a tenth too long": (lambda: claimed(Bent(Exact(mixture(LINEAR)), y=lambda y: 1.1 * y)), "output is 1.1 times", "by 0.9"),
    "v": (lambda: claimed(Exact(mixture(LINEAR), "v")), "its output is v ", "parametrisation=v"),
    "data": (lambda: claimed(Exact(mixture(LINEAR), "denoised")), "the clean data and", "parametrisation=denoised"),
    "noise": (lambda: claimed(Exact(mixture(LINEAR)), meaning=V(noise_label="t")), "the noise and is", "parametrisation=noise"),
    "flow backwards": (
        lambda: claimed(Bent(Exact(mixture(RectifiedFlow()), "velocity"), y=lambda y: -y), RectifiedFlow(), Velocity("t")),
        "wrong sign",
        "change the sign",
    ),
    "cosine": (lambda: claimed(Exact(mixture(COSINE))), "ddpm-chain, cosine", "process.kind=cosine"),
    "scaled": (lambda: claimed(Exact(mixture(SCALED))), "scaled-linear betas 0.00085", "process.kind=scaled-linear"),
    "preserved": (lambda: claimed(Exact(mixture(VP()), told="log-sigma"), VE(), LOG), "noise is that of vp", "process=vp"),
    "exploding": (
        lambda: claimed(Exact(mixture(VE()), told="log-sigma"), VP(), LOG),
        "ve, and not of the vp",
        "ve process.sigma_min",
    ),
    "reversed": (lambda: claimed(Bent(Exact(mixture(LINEAR)), lambda v: 1001 - v)), "runs in reverse", "1001 minus"),
    "thousandth": (lambda: claimed(Bent(Exact(mixture(VP())), lambda v: v / 999), VP()), "999", "multiply the time by"),
    "one late": (lambda: claimed(Bent(Exact(mixture(SHORT)), lambda v: v + 1), SHORT), "one too large", "time - 1"),
    "one early": (lambda: claimed(Bent(Exact(mixture(SHORT)), lambda v: v - 1), SHORT), "one too small", "time + 1"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_mistake_that_is_planted_is_named_with_its_remedy(planted: str) -> None:
    make, mistake, remedy = PLANTED[planted]
    found = examine(make(), DATA if planted.startswith("one") else FEW)
    assert found.verdict == "not sound"
    assert mistake in found.mistakes[0].mistake
    assert remedy in found.mistakes[0].remedy
    assert found.mistakes[0].mistake in " ".join(found.failures)


def test_the_reading_that_undoes_a_mistake_costs_what_the_right_one_does() -> None:
    """To rounding: it is the same function, evaluated through another meaning of the same numbers."""
    ratios = ratios_of(LINEAR, times_to_measure(RIGHT))
    noises = torch.stack([SampleRng(range(200), stream=j + 1).normal((2,)) for j in range(len(ratios))])
    right = measure(Reading("", "", RIGHT), DATA[:200], ratios, noises, None).loss
    for planted, word in (("v", "output is v "), ("cosine", "cosine"), ("reversed", "reverse")):
        undone = [one for one in gross(PLANTED[planted][0](), DATA) if word in one.mistake]
        losses = [measure(one, DATA[:200], ratios, noises, None).loss for one in undone]
        if planted == "cosine":  # its chain has other levels: the nearest whole time is a percent away
            assert any(abs(float((loss - right)[:, 4:9].mean())) < 0.01 for loss in losses)
        else:
            assert any(torch.allclose(loss, right, atol=1e-9) for loss in losses)


def test_data_in_another_range_are_named_and_cost_in_their_own_what_they_cost() -> None:
    truth = GaussianMixture([0.5, 0.3, 0.2], [[0.0, 0.75], [1.0, 1.0], [0.6, 0.0]], [0.05, 0.1, 0.075], LINEAR)
    model, data = ScoreModel(Exact(truth), NOISE, LINEAR, (2,)).eval(), truth.sample(SampleRng(range(300)))
    assert "knows data from 0 to 1" in examine(model, 2 * data - 1).mistakes[0].mistake
    (right,) = (one for one in units(model, 2 * data - 1) if "from 0 to 1, and" in one.mistake)
    ratios = torch.logspace(1, -1, 9, dtype=torch.float64)
    noises = SampleRng(range(9 * 300)).normal((2,)).reshape(9, 300, 2)
    twice, own = (
        measure(right, 2 * data - 1, ratios, noises, None),
        measure(Reading("", "", model), data, ratios / 2, noises, None),
    )
    assert torch.allclose(evidence(twice, ratios), evidence(own, ratios), atol=1e-9)


def test_what_a_poor_network_gains_by_a_small_change_is_a_hint_and_no_verdict() -> None:
    """A brightness that is off costs more than the shift by one does: the shift may be another such error."""
    network = Bent(Exact(mixture(SHORT)), lambda v: v + 1, lambda y: y + 0.15)
    found = examine(claimed(network, SHORT), DATA)
    assert (found.verdict, found.mistakes) == ("sound", ())
    assert "one too large" in found.reasons[-1]


@pytest.mark.parametrize(
    ("change", "word"),
    [(lambda x: x[:, [2, 1, 0]], "red and blue"), (lambda x: x.mT, "height and width"), (lambda x: -x, "black and white")],
    ids=["channels", "axes", "inverted"],
)
def test_pictures_with_something_exchanged_are_named_though_their_score_is_nearly_right(
    change: Callable[[Tensor], Tensor], word: str
) -> None:
    means = SampleRng(range(8), stream=5).normal((3, 4, 4))
    truth = GaussianMixture(torch.ones(8), means, torch.full((8,), 0.2), VP())
    network = ScoreModel(Exact(truth, told="log-sigma"), LOG, VP(), (3, 4, 4), truth.data_mean, truth.data_std).eval()
    data = truth.sample(SampleRng(range(200)))
    assert examine(network, data).verdict == "sound"
    assert word in examine(network, change(data)).mistakes[0].mistake


def test_a_time_that_is_cut_to_a_whole_number_is_caught_and_whole_times_do_not_show_it() -> None:
    cut = examine(claimed(Bent(Exact(mixture(LINEAR)), torch.floor)), FEW)
    assert cut.verdict == "not sound"
    assert "cut to some values" in cut.reasons[0]
    assert [row.loss for row in cut.levels] == [row.loss for row in examine(RIGHT, FEW).levels]
    blind = examine(claimed(Bent(Exact(mixture(VP())), lambda v: v.floor() + 0.5), VP()), FEW)
    assert "ignores its noise label" in " ".join(blind.reasons)


def test_a_shift_by_one_that_no_data_could_show_is_not_claimed() -> None:
    """Of a thousand steps each is a percent of the noise: of smooth data one costs a thousandth of a nat."""
    moved = claimed(Bent(Exact(mixture(LINEAR)), lambda v: v + 1))
    found = examine(moved, DATA)
    assert found.verdict == "sound"
    assert len(list(shifts(moved))) == 2
    assert abs(found.evidence - examine(RIGHT, DATA).evidence) < 0.01


# --- without data -----------------------------------------------------------------------------------------------------


def test_without_data_a_sign_and_a_factor_show_far_away_and_nothing_else_is_said() -> None:
    own = mixture(LINEAR).sample(SampleRng(range(300)))
    assert examine(RIGHT, own, drawn=True).verdict == "cannot say"
    for factor, word in ((-1.0, "wrong sign"), (1.5, "1.5 times")):
        found = examine(claimed(Bent(Exact(mixture(LINEAR)), y=lambda y, c=factor: c * y)), own, drawn=True)
        assert (found.verdict, found.mistakes) == ("not sound", ())
        assert word in found.reasons[-1]


# --- runs, and the command --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "moons"
    app.train("two-moons", out=out, steps=100, device="cpu", settings=("network.width=32", "training.batch=128"))
    return out


def test_a_short_training_is_sound_and_the_same_weights_with_a_mistake_are_not(trained: Path) -> None:
    found = app.verify(run=trained, examples=300)
    assert isinstance(found, Soundness)
    assert (found.verdict, found.on, found.examples) == ("sound", "data", 300)
    field, run = open_run(trained).field, open_run(trained)
    x0 = run.normaliser.encode(torch.as_tensor(run.data.held_out[torch.arange(300)]))
    assert isinstance(field.parametrisation, EDM)
    for change, word in (
        ({"y": lambda y: -y}, "wrong sign"),
        ({"y": lambda y: 2 * y}, "times what it should be"),
    ):
        parts = (field.parametrisation, field.process, field.shape, field.data_mean, field.data_std)
        wrong = examine(ScoreModel(Bent(field.network, **change), *parts).eval(), x0)  # type: ignore[arg-type]
        assert wrong.verdict == "not sound"
        assert word in wrong.mistakes[0].mistake


def test_the_command_says_what_the_function_finds_and_exits_with_1_where_it_is_not_sound(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["verify", str(trained), "-n", "300"])
    shown = capsys.readouterr().out
    assert "300 examples" in shown
    assert "\nsound\n" in shown
    main(["verify", str(trained), "-n", "300", "--json"])
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (report["verdict"], report["failures"], len(report["levels"])) == ("sound", [], 12)
    wrong = examine(claimed(Exact(mixture(LINEAR), "v")), FEW)
    monkeypatch.setattr(app, "verify", lambda **_: wrong)
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(trained)])
    assert stop.value.code == 1
    assert "set parametrisation=v" in " ".join(capsys.readouterr().out.split())


def test_without_its_data_a_run_is_measured_on_its_own_samples(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(trained)
    monkeypatch.setattr(type(run), "data", property(lambda self: (_ for _ in ()).throw(ScorefieldError("got no data"))))
    found = soundness_of(run, examples=64, device=torch.device("cpu"))
    assert (found.verdict, found.on, found.examples) == ("cannot say", "samples", 64)
    with pytest.raises(ScorefieldError, match="got no data"):
        soundness_of(run, data="gone", device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"data": "x"}, "got data or examples without a run"),
        ({"run": "none"}, "got 'none', which is no folder"),
        ({"run": "RUN", "quick": True}, "got quick with the run"),
        ({"run": "RUN", "examples": 1}, "got 1 examples, expected at least 2"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], says: str, trained: Path) -> None:
    with pytest.raises(ScorefieldError, match=says):
        app.verify(**{name: trained if value == "RUN" else value for name, value in given.items()})
    with pytest.raises(ScorefieldError, match=r"got examples of shape \(3,\), expected the field's own \(2,\)"):
        examine(RIGHT, torch.zeros(30, 3))


def test_all_tests_of_an_exact_score_together_fail_at_most_at_the_stated_rate() -> None:
    """Bonferroni: of k tests each has a k-th of it, on both sides, under Student's t."""
    z = critical_of(48, 10**9)
    assert math.isclose(48 * math.erfc(z / math.sqrt(2)), FALSE_ALARM, rel_tol=1e-6)
