"""The examples: each file runs as it is, registers what it adds, and what it adds is measured against closed form."""

from __future__ import annotations

import ast
import math
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import OfScore, between, double, doubles, within_five

from scorefield import VE, VP, Gaussian, GaussianMixture, SampleRng, ScorefieldError, geometric, registry
from scorefield.data import DataConfig, open_source
from scorefield.data.formats import writers
from scorefield.guidance import posterior_sample
from scorefield.operators.base import dense
from scorefield.runs import open_run
from scorefield.samplers import Heun, simulate
from scorefield.verification import affine, checks, facts

ROOT = Path(__file__).parents[1]
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
REGISTERED = {stem: stem.split("_")[0] for stem in EXAMPLES if stem.split("_")[0] in registry.HOMES}
Names = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def scratch() -> Iterator[None]:
    """Copies of every table of names: what an example registers is gone when this file ends."""
    before = {kind: registry.names(kind) for kind in registry.HOMES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_tables", {kind: dict(table) for kind, table in registry._tables.items()})
        yield
    assert {kind: registry.names(kind) for kind in registry.HOMES} == before


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Names]:
    """Run an example as a person does, once; return its names."""
    ran = dict[str, Names]()

    def run(stem: str) -> Names:
        if stem not in ran:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(tmp_path_factory.mktemp(stem))
                patch.setattr("tempfile.tempdir", str(Path.cwd()))
                ran[stem] = runpy.run_path(str(EXAMPLES[stem]), run_name="__main__")
        return ran[stem]

    return run


def test_the_page_shows_every_example() -> None:
    text = (ROOT / "docs" / "how" / "extending.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    assert set(re.findall(r"^```\{literalinclude\} \.\./\.\./examples/(\S+)$", text, re.M)) == files - {"estimator.py"}


@pytest.mark.parametrize("stem", REGISTERED)
def test_an_example_is_a_component_like_those_of_the_package(stem: str, example: Callable[[str], Names]) -> None:
    """Found by name, said in its first line, and used in five lines at the bottom."""
    example(stem)
    kind, name = REGISTERED[stem], stem.partition("_")[2].replace("_", "-")
    thing = registry.find(kind, name)
    first = thing.__doc__.strip().split("\n")[0]
    assert 15 <= len(first) <= 150 and not first.startswith(f"{thing.__name__}(")
    *_, used = ast.parse(EXAMPLES[stem].read_text(encoding="utf-8")).body
    assert isinstance(used, ast.If) and len(used.body) <= 5


def test_the_midpoint_sampler_has_the_order_that_it_declares(example: Callable[[str], Names]) -> None:
    """On a mixture by halving its steps; on Gaussian data, where every step is affine, it is of order 3 even."""
    sampler = example("sampler_midpoint")["Midpoint"]()
    field = GaussianMixture([0.3, 0.7], [[-1.0], [1.5]], [0.5, 0.8], VE(0.05, 8.0))
    start = torch.linspace(-8, 8, 41, dtype=torch.float64)[:, None]

    def end(steps: int) -> torch.Tensor:
        ladder = torch.linspace(0.9, 0.2, steps + 1, dtype=torch.float64)
        *_, last = simulate(field, sampler, ladder, start, rng=SampleRng(range(41)), denoise=False)
        return last.x

    coarse, fine, truth = end(40), end(80), end(480)
    order = math.log2(float((coarse - truth).abs().max() / (fine - truth).abs().max()))
    assert order == pytest.approx(2, abs=0.1)
    for process in (VE(0.05, 8.0), VP()):
        assert affine.measured_order(sampler, process, (20, 40))[0] == pytest.approx(3, abs=0.01)
    assert (facts.dwells(sampler), facts.remembers(sampler)) == (sampler.dwells, sampler.remembers)
    left = example("sampler_midpoint")["x"][:, 0] < 0
    assert within_five(left.double(), 0.8)


def test_the_antithetic_objective_exceeds_its_minimum_by_the_fisher_divergence(example: Callable[[str], Names]) -> None:
    """On N(0, v) a score 1 + c times the true one has the divergence c²/2·lambda/(alpha²·v + sigma²), at each level."""
    objective, v, c, count = example("objective_antithetic")["Antithetic"](), 2.0, 0.5, 20_000
    true = Gaussian([0.0], [[v]], VE(0.3, 3.0))
    x0 = true.sample(SampleRng(range(count)))

    def loss(factor: float) -> torch.Tensor:
        field = OfScore(true, lambda x, t: factor * true(x, t).score)
        return objective(field, x0, rng=SampleRng(range(count), stream=1))

    sigma2 = true.process.sigma(objective.noise_distribution.times(true.process)) ** 2
    assert within_five(loss(1 + c) - loss(1.0), float((c**2 / 2 * sigma2 / (v + sigma2)).mean()))
    assert within_five((loss(1.001) - loss(0.999)) / 0.002, 0.0)


def test_the_affine_network_learns_a_gaussian(example: Callable[[str], Names]) -> None:
    """Its field is that of the mean and covariance of the training data, up to what 200 steps leave."""
    names = example("network_affine")
    run = open_run(names["run"])
    assert registry.name_of("network", run.config.network) == "affine"
    moments = run.moments
    true = Gaussian(moments.mean, moments.map(lambda v: v, torch.eye(2, dtype=torch.float64)), run.config.process)
    x0 = true.sample(SampleRng(range(2000)))
    for level in (0.3, 1.0, 3.0):
        t = true.process.time_of_sigma(torch.full((2000,), level))
        x = true.process.perturb(x0, t, SampleRng(range(2000), stream=1).normal((2,)))
        exact = true(x, t).denoised
        learned, fresh = (float((d - exact).square().mean()) for d in (names["field"](x, t).denoised, x / (1 + level**2)))
        assert learned < 0.01 * float(exact.square().mean())
        assert learned < fresh / 10  # D of y = 0, with which it began
    network = run.config.network.build((3, 2))
    assert network(torch.randn(5, 3, 2), torch.zeros(5)).shape == (5, 3, 2)
    with pytest.raises(ScorefieldError, match="got 4 classes for the network affine"):
        run.config.network.build((2,), 4)


def test_the_process_of_linear_log_snr_has_that_and_the_transitions_of_its_sde(example: Callable[[str], Names]) -> None:
    process = example("process_linear_log_snr")["LinearLogSNR"](high=8.0, low=-6.0)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(process.log_snr(t), 8 - 14 * t, rtol=1e-10, atol=1e-10)
    assert torch.allclose(process.time_of_sigma(process.sigma(t) / process.alpha(t)), t, rtol=0, atol=1e-12)
    # dx = -beta/2·x dt + sqrt(beta) dw with beta = 14·sigma²: alpha² = sigmoid, so -2·f = -d log alpha²/dt = 14·(1 - alpha²)
    assert torch.allclose(process.diffusion(t) ** 2, 14 * process.sigma(t) ** 2)
    u, s, r = doubles(0.9, 0.8), doubles(0.5, 0.6), doubles(0.1, 0.2)
    (k1, std1), (k2, std2), (k, std) = process.transition(u, s), process.transition(s, r), process.transition(u, r)
    assert torch.allclose(k1 * k2, k)
    assert torch.allclose(k1**2 * std2**2 + std1**2, std**2)
    assert next(check for check in checks.processes() if check.name == "linear-log-snr").passed
    x = example("process_linear_log_snr")["x"]
    for row, variance in zip(x.mT - doubles(1.0, 0.0)[:, None], (2.0, 1.0), strict=True):
        assert within_five(row**2, variance)


def test_grids_go_through_a_data_set_and_back_and_a_broken_one_is_named(
    example: Callable[[str], Names], tmp_path: Path
) -> None:
    names = example("format_esri_grid")
    form = writers("image")[".asc"]
    assert isinstance(form, names["EsriGrid"])
    grids = np.random.default_rng(1).normal(800, 90, size=(12, 5, 7)).astype("f4")
    layout = names["Layout"]("yx", "float32", (5, 7), (), None, "esri-grid", {"cellsize": 25.0})
    for index, grid in enumerate(grids):
        form.write(str(tmp_path / f"{index:02d}.asc"), grid, layout)
    (tmp_path / "13.asc").write_text("ncols 7\nnrows 5\ncellsize 25\n1 2 3 4 5 6 7\n")
    data = open_source(str(tmp_path), DataConfig(held_out=0.25))
    assert (data.kind, data.layout.header, data.layout.format) == ("image", {"cellsize": 25.0}, "esri-grid")
    assert any("13.asc" in issue.where and "promises 5 rows" in issue.cause for issue in data.issues)
    parts = (data.normaliser.encode(part[:]).double() for part in (data.train, data.held_out))
    back = np.concatenate([data.layout.to_source(data.normaliser.decode(x).numpy()) for x in parts])
    assert np.allclose(np.sort(back, axis=0), np.sort(grids, axis=0), rtol=1e-6)
    again = tmp_path / "again"
    again.mkdir()
    for index, grid in enumerate(back):
        form.write(str(again / f"{index:02d}.asc"), grid, data.layout)
    assert (again / "00.asc").read_text().splitlines()[2] == "cellsize 25.0"
    assert np.array_equal(
        np.sort(np.stack([np.loadtxt(p, skiprows=3, dtype="f4") for p in sorted(again.iterdir())]), 0), np.sort(back, 0)
    )


def test_the_energy_distance_of_two_normals_is_that_of_the_formula(example: Callable[[str], Names]) -> None:
    """X - Y is N(m, 2), so E|X - Y| is the mean of a folded normal; of two points each it is counted by hand."""
    metric, n, m = example("metric_energy_distance")["EnergyDistance"](), 1000, 1.0

    def folded(mean: float) -> float:
        return 2 / math.sqrt(math.pi) * math.exp(-(mean**2) / 4) + mean * math.erf(mean / 2)

    estimates = [
        metric(SampleRng(range(n), stream=2 * k).normal((1,)) + m, SampleRng(range(n), stream=2 * k + 1).normal((1,)))
        for k in range(8)
    ]
    values = double([estimate.value for estimate in estimates])
    assert within_five(values, 2 * folded(m) - 2 * folded(0.0))
    assert f"where {2 * folded(m) - 2 * folded(0.0):.3f} is exact" in EXAMPLES["metric_energy_distance"].read_text()
    by_hand = metric(double([[0.0], [1.0], [5.0]]), double([[0.0], [2.0], [2.0]]))
    assert by_hand.value == pytest.approx(2 * 18 / 9 - 2 * (1 + 5 + 4) / 6 - 2 * (2 + 2) / 6)


def test_the_differences_and_their_adjoint_are_one_matrix_and_its_transpose(example: Callable[[str], Names]) -> None:
    operator, shape = example("operator_differences")["Differences"](), (2, 5)
    x, y = SampleRng(range(4)).normal(shape), SampleRng(range(4), stream=1).normal((2, 4))
    assert torch.allclose((operator(x) * y).sum(), (x * operator.adjoint(y, shape)).sum())
    step = torch.eye(5, dtype=torch.float64)[1:] - torch.eye(5, dtype=torch.float64)[:-1]
    assert torch.equal(dense(operator, shape), torch.block_diag(step, step))
    inverse = operator.pseudo_inverse(operator(x), shape)
    assert torch.allclose(inverse, x - x.mean(dim=-1, keepdim=True))  # of all with these differences the one of mean 0
    with pytest.raises(ScorefieldError, match="expected two numbers or more"):
        operator.shape_out((3, 1))


def test_a_posterior_by_the_differences_of_a_gaussian_is_that_of_linear_algebra(example: Callable[[str], Names]) -> None:
    names = example("operator_differences")
    covariance = double([[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]])
    prior = Gaussian([1.0, 0.0, -1.0], covariance, VE(0.01, 20.0))
    y, s, a = doubles(1.0, -0.5), 0.4, double([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
    draws = posterior_sample(prior, names["Differences"](), y, s, rng=SampleRng(range(4000))).x
    gain = covariance @ a.mT @ torch.linalg.inv(a @ covariance @ a.mT + s**2 * torch.eye(2, dtype=torch.float64))
    mean, left = prior.mean + gain @ (y - a @ prior.mean), covariance - gain @ a @ covariance
    for index in range(3):
        assert within_five(draws[:, index], float(mean[index]))
        assert within_five((draws[:, index] - mean[index]) ** 2, float(left[index, index]))


def test_a_linear_reward_tilts_a_gaussian_into_the_one_of_closed_form(example: Callable[[str], Names]) -> None:
    """p(x0)·exp(b·x0) is N(m + S·b, S): its score at every level, and its samples without Monte Carlo."""
    rewarded, b = example("guidance_reward")["Rewarded"], doubles(0.7, -0.4)
    for process in (VE(0.05, 40.0), VP()):
        prior = Gaussian([1.0, -0.5], [[1.5, 0.4], [0.4, 0.3]], process)
        tilted = Gaussian(prior.mean + prior.covariance @ b, prior.covariance, process)
        guided = rewarded(prior, lambda x0: x0 @ b)
        x = 3 * SampleRng(range(20)).normal((2,))
        for share in (0.05, 0.5, 0.95):
            t = torch.full((20,), between(process, share), dtype=torch.float64)
            assert torch.allclose(guided(x, t).score, tilted(x, t).score, rtol=1e-9, atol=1e-9)
        maps = [affine.affine_map(field, Heun(), geometric(process, 12)) for field in (guided, tilted)]
        assert all(torch.allclose(one, other) for one, other in zip(*maps, strict=True))


# --- the view -----------------------------------------------------------------------------------------------------------


def patched() -> dict[str, str]:
    """The files that the example of a view changes, as it leaves them, by their paths."""
    text = (ROOT / "examples" / "view_cost.diff").read_text(encoding="utf-8")
    found = dict[str, str]()
    for path, hunk in re.findall(r"^\+\+\+ b/(\S+)\n@@.*@@\n((?:[ +-].*\n)+?)(?=---|\Z)", text, re.M):
        lines = [(line[0], line[1:]) for line in hunk.splitlines()]
        old, new = ("\n".join(line for mark, line in lines if mark in (" ", own)) for own in "-+")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert source.count(old) == 1, f"{path} is not as the example has it"
        found[path] = source.replace(old, new)
    return found


def test_the_view_is_drawn_where_its_patch_puts_it(browser: Any) -> None:
    """In a browser, with the page's own files and runs of known numbers in place of a server."""
    static, changed = "src/scorefield/web/static", patched()
    assert '"cost")\n' in changed["src/scorefield/web/api.py"]
    runs = [
        {"name": "slow", "parameters": 1500, "images": 6000, "seconds": 60.0},
        {"name": "fast", "parameters": 2_000_000, "images": 90_000, "seconds": 90.0},
        {"name": "imported", "parameters": 10, "images": 0, "seconds": 0},
    ]

    def answer(route: Any) -> None:
        path = route.request.url.partition("://page")[2].split("?")[0]
        place = f"{static}{path.removeprefix('/static')}" if path.startswith("/static/") else f"{static}/index.html"
        if path.startswith("/api/"):
            route.fulfill(json=runs)
        elif place == f"{static}/views/cost.js":
            route.fulfill(path=ROOT / "examples" / "view_cost.js")
        elif place in changed:
            route.fulfill(body=changed[place], content_type="text/javascript")
        else:
            route.fulfill(path=ROOT / place)

    page = browser.new_page()
    errors = list[Any]()
    page.on("pageerror", lambda error: errors.append(error))
    page.route("**/*", answer)
    page.goto("http://page/field")
    page.get_by_role("link", name="Cost").click()
    page.get_by_role("heading", name="Cost").wait_for()
    assert page.title() == "Cost - scorefield" and page.url == "http://page/cost"
    rows = page.locator("tbody tr").all_inner_texts()
    assert [re.split(r"\s*\t\s*", row.strip()) for row in rows] == [
        ["fast", "2,000,000", "90,000", "1 min 30 s", "1,000"],
        ["slow", "1,500", "6,000", "1 min", "100"],
    ]
    assert not errors
    page.close()
