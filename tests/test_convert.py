"""Conventions: a noise level and a prediction in every paper's letters, against published formulas and an exact Gaussian."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import between, command, each_case

from scorefield import Process, ScorefieldError, app, registry
from scorefield.conventions import LEVELS, VIEWS, langevin_of, level_of, preconditioning_of, time_of, views_of, weights_of
from scorefield.process import VE, VP, DDPMChain, LinearVE, Noiseless, RectifiedFlow

ROOT = Path(__file__).parents[1]
PROCESSES: dict[str, Process] = {
    name: kind.example() for name, kind in registry.every("process").items() if kind is not Noiseless
}
MEAN, VARIANCE, POINT = 1.5, 0.6, 0.8  # of Gaussian data, and x_t


def middle(process: Process, share: float = 0.4) -> float:
    """A time of a process; of a chain one between two whole numbers, where alpha and sigma are smooth."""
    return math.floor(between(process, share)) + 0.5 if process.discrete else between(process, share)


def scales(process: Process, t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=torch.float64)
    return float(process.alpha(time)), float(process.sigma(time))


# --- noise levels -----------------------------------------------------------------------------------------------------


@each_case(process=PROCESSES, quantity=LEVELS)
def test_each_number_of_a_noise_level_says_the_time_and_so_all_the_others(process: Process, quantity: str) -> None:
    t = middle(process)
    level = level_of(process, t)
    value = getattr(level, quantity)
    if quantity.startswith("alpha") and level.alpha == 1:
        with pytest.raises(ScorefieldError, match=f"got {quantity} = 1 on .*, which is so at every time, .*: give sigma"):
            time_of(process, quantity, value)
    elif value is None:
        assert quantity == "timestep" and not 0.01 < level.ratio < 157  # DDPM's chain has no such noise
    else:
        assert time_of(process, quantity, value) == pytest.approx(t, rel=1e-9)


@pytest.mark.parametrize("timestep", [0, 500, 999])
def test_a_timestep_is_that_of_the_published_chain(timestep: int) -> None:
    """Ho et al. (2020): 1,000 betas from 1e-4 to 0.02, their products cumulated, counted from 0."""
    betas = np.linspace(1e-4, 0.02, 1000)
    abar = float(np.cumprod(1 - betas)[timestep])
    level = level_of(DDPMChain(), time_of(DDPMChain(), "timestep", timestep))
    assert (level.t, level.timestep) == (timestep + 1, timestep)
    expected = [betas[timestep], abar, math.sqrt(abar), math.sqrt(1 - abar), math.sqrt(1 / abar - 1), abar / (1 - abar)]
    shown = [level.beta, level.alpha_bar, level.alpha, level.sigma, level.ratio, level.snr]
    assert shown == pytest.approx(expected, rel=1e-9)
    assert level.log_snr == pytest.approx(math.log(abar) - math.log(1 - abar))


def test_the_timestep_of_another_process_has_the_same_noise_there() -> None:
    same = level_of(VE(), time_of(VE(), "timestep", 700))
    assert same.ratio == pytest.approx(level_of(DDPMChain(), 701).ratio)
    assert same.timestep == pytest.approx(700)
    assert level_of(LinearVE(), 0.005).timestep is None


@each_case(process=PROCESSES)
def test_drift_and_diffusion_are_the_rates_of_alpha_and_sigma(process: Process) -> None:
    t, step = middle(process), 1e-5 * (process.t_max - process.t_min)
    first, (_, sigma), last = (scales(process, at) for at in (t - step, t, t + step))
    level = level_of(process, t)
    f = math.log(last[0] / first[0]) / (2 * step)
    g2 = (last[1] ** 2 - first[1] ** 2) / (2 * step) - 2 * f * sigma**2
    assert level.f == pytest.approx(f, rel=1e-6)
    assert (level.g2, level.g**2) == pytest.approx((g2, g2), rel=1e-6)
    assert level.beta == pytest.approx(-2 * f, rel=1e-6) or process.discrete


def test_beta_is_the_integrand_of_vp() -> None:
    level = level_of(VP(0.1, 12.0), 0.25)
    assert level.beta == pytest.approx(0.1 + 0.25 * 11.9)
    assert level.g2 == pytest.approx(level.beta)


# --- EDM, weights, Langevin steps -------------------------------------------------------------------------------------


@each_case(process=PROCESSES)
def test_edm_has_the_coefficients_of_its_table_for_sigma_over_alpha(process: Process) -> None:
    """Karras et al. (2022), table 1, last column."""
    t, data_std = middle(process), 1.3
    s, found = level_of(process, t).ratio, preconditioning_of(process, t, data_std)
    r2 = s**2 + data_std**2
    expected = (data_std, data_std**2 / r2, s * data_std / math.sqrt(r2), 1 / math.sqrt(r2), math.log(s) / 4)
    assert dataclasses.astuple(found) == pytest.approx(expected, rel=1e-9)
    assert weights_of(process, t, data_std)["edm"].denoised == pytest.approx(r2 / (s * data_std) ** 2, rel=1e-9)


@each_case(process=PROCESSES)
def test_a_weight_on_one_view_is_the_same_loss_as_its_weights_on_the_others(process: Process) -> None:
    t, wrong = middle(process), 0.3
    seen = [views_of(process, t, POINT, "score", score) for score in (-0.2, -0.2 + wrong)]
    off = {view: getattr(seen[1], view) - getattr(seen[0], view) for view in ("score", "noise", "denoised")}
    weights = weights_of(process, t)
    for weight in weights.values():
        losses = [getattr(weight, view) * error**2 for view, error in off.items()]
        assert losses == pytest.approx([weight.score * wrong**2] * 3, rel=1e-9)
    level = level_of(process, t)
    assert weights["sigma2"].noise == pytest.approx(1)  # DDPM's simple loss
    assert weights["min-snr"].denoised == pytest.approx(min(level.snr, 5.0))
    assert weights["likelihood"].score == pytest.approx(level.g2)


def test_both_langevin_conventions_are_one_step() -> None:
    """On N(0, v) a step by tau leaves the variance v/(1 - tau/(2v)), and one by eps/2 leaves v/(1 - eps/(4v))."""
    step, v = langevin_of(RectifiedFlow(), 0.4, tau=0.3), 0.7
    stationary = step.noise_std**2 / (1 - (1 - step.tau / v) ** 2)
    assert stationary == pytest.approx(v / (1 - step.tau / (2 * v)))
    assert stationary == pytest.approx(v / (1 - step.eps / (4 * v)))
    views = views_of(RectifiedFlow(), 0.4, POINT, "score", -1.7)
    assert step.by_noise * views.noise == pytest.approx(step.tau * views.score)
    for sigma in (0.01, 1.0):  # the published rule: step_lr·(sigma/sigma_min)², sigma_min = 0.01, step_lr = 2e-5
        published = langevin_of(LinearVE(), sigma)
        assert (published.tau, published.step_lr) == pytest.approx((2e-5 * (sigma / 0.01) ** 2, 2e-5))


# --- predictions ------------------------------------------------------------------------------------------------------


def gaussian_views(process: Process, t: float) -> dict[str, float]:
    """Of data N(MEAN, VARIANCE) at x_t = POINT, by regression and by the flow's own path, not by Tweedie's formula."""
    alpha, sigma = scales(process, t)
    spread = alpha**2 * VARIANCE + sigma**2
    off = (POINT - alpha * MEAN) / spread
    denoised, noise = MEAN + alpha * VARIANCE * off, sigma * off  # E[y | x] = E y + Cov(y, x)/Var(x)·(x - E x)
    quantile = (POINT - alpha * MEAN) / math.sqrt(spread)  # which the probability flow keeps

    def path(time: float) -> float:
        alpha, sigma = scales(process, time)
        return alpha * MEAN + math.sqrt(alpha**2 * VARIANCE + sigma**2) * quantile

    step = 1e-5 * (process.t_max - process.t_min)
    ratio = sigma / alpha
    return {
        "x": POINT,
        "z": POINT / alpha,
        "score": -off,
        "energy_gradient": off,
        "noise": noise,
        "denoised": denoised,
        "v": alpha * noise - sigma * denoised,
        "flow": noise - denoised,
        "velocity": (path(t + step) - path(t - step)) / (2 * step),
        "edm_output": (denoised - 0.25 / (ratio**2 + 0.25) * POINT / alpha) * math.sqrt(ratio**2 + 0.25) / (ratio * 0.5),
    }


@each_case(process=PROCESSES, view=VIEWS)
def test_from_any_view_of_an_exact_gaussian_follow_all_the_others(process: Process, view: str) -> None:
    t = middle(process)
    exact = gaussian_views(process, t)
    found = dataclasses.asdict(views_of(process, t, POINT, view, exact[view]))
    assert found.keys() == exact.keys()
    for name, value in exact.items():  # the derivative above has six to eight digits
        digits = 1e-6 if "velocity" in (name, view) else 1e-9
        assert found[name] == pytest.approx(value, rel=digits, abs=digits), name


def test_without_noise_only_the_views_that_say_the_score_are_taken() -> None:
    assert views_of(Noiseless(), 0.0, POINT, "score", -2.0).denoised == POINT
    for view in set(VIEWS) - {"score", "energy_gradient"}:
        with pytest.raises(ScorefieldError, match=f"got the view {view} at sigma = 0 of Noiseless.*: give score, or a level"):
            views_of(Noiseless(), 0.0, POINT, view, 0.5)


# --- the verb ---------------------------------------------------------------------------------------------------------


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert command("convert", *words) == 0
    return capsys.readouterr().out


def test_python_and_the_command_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("vp", "--set", "beta_max=12", "--log-snr", "0.5", "--x", "-0.3", "--velocity", "-1e-1", "--tau", "0.1")
    asked: Any = {"log_snr": 0.5, "x": -0.3, "velocity": -0.1, "settings": ["beta_max=12"], "tau": 0.1, "data_std": 0.8}
    report = app.convert("vp", **asked).to_dict()
    assert json.loads(printed(capsys, *words, "--data-std", "0.8", "--json")) == report
    assert report["process"] == {"name": "vp", "beta_min": 0.1, "beta_max": 12, "t_min": 0.001}
    text = printed(capsys, *words, "--data-std", "0.8")
    for group in ("level", "preconditioning", "langevin", "views"):
        for name, value in report[group].items():
            assert re.search(rf"^  {name} +{re.escape(f'{value:.6g}')}  \S", text, re.M), name
    for name, weight in report["weights"].items():
        assert re.search(rf"^  {name} +" + " +".join(re.escape(f"{value:.6g}") for value in weight.values()) + "$", text, re.M)


def test_a_run_has_its_own_process_and_spread(capsys: pytest.CaptureFixture[str]) -> None:
    run = ROOT / "tests" / "runs" / "0.5" / "adams"
    opened = app.inspect(run).run
    report = app.convert(run, t=opened.config.process.t_max)
    assert report.process == opened.config.process
    assert report.preconditioning.data_std == opened.manifest["data"]["std"] != 0.5
    assert command("convert", run, "--t", 0.5, "--set", "sigma_max=3") == 2
    assert "got settings with the run" in capsys.readouterr().err


WRONG = [
    ("vpp --t 0.5", "unknown process 'vpp': did you mean 'vp'"),
    ("ve", "got no noise level, expected one of t, sigma, ratio, alpha, log_snr, alpha_bar, timestep: give one"),
    ("ve --sigma 1 --t 0.4", "got t, sigma for the noise level, expected one of"),
    ("ve --sigma 100", r"got sigma = 100 on VE\(.*, expected 0.01 to 50: correct it, or the process"),
    ("ve --sigma nan", "got sigma = nan, expected a finite number"),
    ("ddpm-chain --timestep 1000", "got timestep = 1000, expected 0 to 999"),
    ("vp --timestep 0", r"got timestep = 0, where sigma/alpha is 0\.01, on VP\(.*, expected 0\.010486 to 152"),
    ("vp --t 0.5 --x 1", "got no view at x, expected one of score, noise, denoised, v, flow, velocity, energy_gradient"),
    ("vp --t 0.5 --score 1", "got a view of a prediction without x"),
    ("vp --t 0.5 --x 1 --score 2 --v 3", "got score, v for the view at x"),
    ("vp --t 0.5 --x inf --score 2", "got x = inf, expected a finite number"),
    ("vp --t 0.5 --set beta_mx=3", "unknown setting of process 'beta_mx': did you mean 'beta_max'"),
    ("vp --t 0.5 --set beta_max", "got the setting 'beta_max', expected key=value"),
    ("vp --t 0.5 --set beta_max=-3", "got -3 for process.beta_max"),
    ("vp --t 0.5 --data-std 0", "got data_std = 0, expected a positive number"),
    ("vp --t 0.5 --tau -1", "got tau = -1, expected a positive number"),
    ("runs/none --t 0.5", "expected a run's folder"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[words for words, _ in WRONG])
def test_a_wrong_word_is_one_sentence_and_exit_code_2(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("convert", *words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.match(f"scorefield: {says}", err) or re.search(says, err), err


def test_what_the_pages_print_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """In a page, `...` stands for lines that are left out."""
    shown = 0
    for page in sorted((ROOT / "docs" / "how").glob("*.md")):
        for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            first, *lines = block.rstrip("\n").split("\n")
            if not first.startswith("$ scorefield convert "):
                continue
            shown += 1
            said = printed(capsys, *shlex.split(first)[3:]).rstrip("\n").split("\n")
            pattern = "\n".join("(?:.*\n)*?.*" if line.strip() == "..." else re.escape(line) for line in lines)
            assert re.fullmatch(pattern, "\n".join(said)), f"{page.name}: {first}"
    assert shown >= 4
