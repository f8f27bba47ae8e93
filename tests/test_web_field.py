"""The Field view in a real browser: its densities, scores and samplers against closed form, its lessons, its one file.

The view computes in the page what the package computes in Python, so it is held to the same truths. One browser serves the
whole file; its pages get the modules from the disk, and any other address is refused. Bounds are 5 standard errors, or
rounding.
"""

import base64
import itertools
import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorefield import VE, GaussianMixture, ScorefieldError
from scorefield.randomness import philox
from scorefield.web.standalone import FIELD, START, bundle, field_page, main

HOME = "http://field.test/"
FRAME = """<!doctype html><html lang="en"><title>field</title><meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="/standalone.css"><link rel="stylesheet" href="/field.css"><main></main>"""
MODULES = {path.stem: f"/{path.name}" for path in sorted(FIELD.glob("*.js")) if path.name != START}
NAMES = ["pair", "moons", "ring", "spiral", "board", "curve", "thin", "blob"]
LESSONS = ["curve", "thin", "weights", "level", "annealing", "bias", "metropolis"]
TYPES = {".js": "text/javascript", ".css": "text/css"}


def opened(browser: Any, **options: Any) -> Any:
    """A page whose only addresses are the files of the view; `errors` and `elsewhere` collect what must not happen."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
    page.errors, page.elsewhere = [], []

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(HOME).partition("?")[0]
        if route.request.url.startswith(HOME) and (FIELD / name).is_file():
            route.fulfill(content_type=TYPES[Path(name).suffix], body=(FIELD / name).read_text(encoding="utf-8"))
        elif route.request.url.startswith(HOME) and not name:
            route.fulfill(content_type="text/html", body=FRAME)
        else:
            page.elsewhere.append(route.request.url)
            route.abort()

    page.route("**/*", answer)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.goto(HOME)
    return page


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    return opened(browser)


@pytest.fixture(autouse=True)
def _nothing_went_wrong(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "page" in request.fixturenames:
        shown = request.getfixturevalue("page")
        assert (shown.errors, shown.elsewhere) == ([], [])


PACK = """
    const pack = (numbers) => {
      const bytes = new Uint8Array(Float64Array.from(numbers).buffer);
      return btoa(Array.from({ length: Math.ceil(bytes.length / 8192) }, (_, i) =>
        String.fromCharCode(...bytes.subarray(8192 * i, 8192 * (i + 1)))).join(""));
    };
"""


def unpacked(text: str) -> np.ndarray:
    """Many numbers that came as one text, `pack` of PACK: as a list they would take most of the time of a test."""
    return np.frombuffer(base64.b64decode(text), dtype="<f8")


def run(page: Any, script: str, given: Any = None) -> Any:
    """Run a script with every module by its name, `pack`, and `a`, what is given."""
    names = "".join(f"const {stem} = await import('{address}');" for stem, address in MODULES.items())
    return page.evaluate(f"async (a) => {{ {names} {PACK} {script} }}", given)


def mounted(page: Any, query: str = "", learned: str = "null") -> None:
    """Fill the page with the view; `globalThis.shown` is it."""
    script = """
        globalThis.shown?.();
        const server = (0, eval)(a.learned);
        const options = { query: a.query, onQuery: (q) => (globalThis.query = q), learned: server };
        globalThis.shown = view.mount(document.querySelector("main"), options);
    """
    run(page, script, {"query": query, "learned": learned})


CHAIN = """
    const set = datasets.dataset(a.data), [low, high] = a.ends ?? set.levels, all = [];
    const levels = a.levels ? samplers.geometric(high, low, a.levels) : Float64Array.of(a.sigma);
    const field = a.score ? { score: (x, sigma) => set.mixture.score(x, sigma) } : set.mixture;
    const positions = samplers.startOf(a.start ?? "wide", set, levels[0], a.n, a.seed ?? 0);
    const options = { levels, hold: a.hold ?? 1, step: a.step ?? null, seed: a.seed ?? 0, positions };
    const chain = new samplers.Chain(field, a.sampler, options);
    for (let i = 0; i < (a.steps ?? Infinity) && (await chain.advance()); i++);
    const shares = measures.modeShares(set.mixture, chain.x, chain.sigma);
    const { done, evaluations, acceptance } = chain;
    return { x: pack(chain.x), start: pack(positions), shares: [...shares], done, evaluations, acceptance };
"""


def chain(page: Any, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = run(page, CHAIN, given)
    found["x"], found["start"] = unpacked(found["x"]), unpacked(found["start"])
    return found


def variance_error(variance: float, numbers: int) -> float:
    """Standard error of the mean square of Gaussian numbers."""
    return variance * math.sqrt(2 / numbers)


# --- exact fields -----------------------------------------------------------------------------------------------------

COMPONENTS = """
    const { mixture: m } = datasets.dataset(a.name, a.strokes ?? []);
    const components = { weights: [...m.weights], means: [...m.x].map((x, k) => [x, m.y[k]]), stds: [...m.stds] };
"""


@pytest.mark.parametrize("name", NAMES)
def test_densities_scores_and_responsibilities_are_those_of_python_at_every_level(page: Any, name: str) -> None:
    script = (
        COMPONENTS
        + """
        const { window: w, levels: [low, high] } = datasets.dataset(a.name), n = 60;
        const x = Float64Array.from(random.draws(1, 9, 0, n).normal, (z, i) => (i % 2 ? w.y : w.x) + 0.7 * w.half * z);
        const levels = [0, low, Math.sqrt(low * high), high];
        const at = (sigma) => ({
          score: [...m.score(x, sigma)], log: [...m.logDensity(x, sigma)], share: [...m.responsibilities(x, sigma)],
        });
        return { components, x: [...x], levels, found: levels.map(at), modes: [...m.modes] };
    """
    )
    got = run(page, script, {"name": name})
    x = torch.tensor(got["x"], dtype=torch.float64).reshape(-1, 2)
    modes = torch.tensor(got["modes"])
    for sigma, found in zip(got["levels"], got["found"], strict=True):
        # at sigma = 0 the process has no time: the lowest level is put into the components, to rounding the same density
        process = VE(1e-9, 100.0)
        exact = GaussianMixture(**got["components"], process=process)
        t = process.time_of_sigma(torch.tensor(max(sigma, 1e-9), dtype=torch.float64)).expand(len(x))
        score, log = (
            torch.tensor(found["score"], dtype=torch.float64).reshape(-1, 2),
            torch.tensor(found["log"], dtype=torch.float64),
        )
        expected = exact(x, t).score
        torch.testing.assert_close(score, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
        torch.testing.assert_close(log, exact.log_prob(x, t), rtol=1e-9, atol=1e-9)
        parts = exact.responsibilities(x, t)
        by_mode = torch.stack([parts[:, modes == mode].sum(1) for mode in range(int(modes.max()) + 1)], dim=1)
        torch.testing.assert_close(
            torch.tensor(found["share"], dtype=torch.float64).reshape(by_mode.shape), by_mode, rtol=1e-9, atol=1e-9
        )


def test_the_built_in_pair_and_ring_are_the_densities_of_the_built_in_sources(page: Any) -> None:
    for name, source in (("pair", "mixture"), ("ring", "eight-gaussians")):
        got = run(page, COMPONENTS + "return { components, source: datasets.DATASETS[a.name].source };", {"name": name})
        assert got["source"] == source
        points = torch.tensor(np.array(got["components"]["means"]))
        if name == "pair":
            assert got["components"] == {"weights": [0.8, 0.2], "means": [[-5, 0], [5, 0]], "stds": [1, 1]}
        else:
            angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
            torch.testing.assert_close(points, 2 * torch.stack([angle.cos(), angle.sin()], 1), atol=1e-12, rtol=0)
            assert set(got["components"]["stds"]) == {0.1}


@pytest.mark.parametrize("name", NAMES)
def test_the_score_integrates_along_a_line_to_the_difference_of_log_densities(page: Any, name: str) -> None:
    """By Gauss's rule with 24 points, on a line as long as the narrowest component: exact to rounding for what is so smooth."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    script = (
        COMPONENTS
        + """
        const ends = m.sample(40, 3, a.sigma), width = Math.hypot(m.smallest, a.sigma);
        const there = ends.map((x, i) => x + (i % 2 ? 0.5 : 0.8) * width);
        let integral = new Float64Array(40);
        a.nodes.forEach((u, j) => {
          const score = m.score(ends.map((x, i) => x + ((u + 1) / 2) * (there[i] - x)), a.sigma);
          const slope = (k) => score[k] * (there[k] - ends[k]);
          integral = integral.map((sum, i) => sum + (a.weights[j] / 2) * (slope(2 * i) + slope(2 * i + 1)));
        });
        const from = m.logDensity(ends, a.sigma), to = m.logDensity(there, a.sigma);
        return { integral: [...integral], difference: [...to].map((log, i) => log - from[i]) };
    """
    )
    for sigma in (0.01, 0.3):
        got = run(page, script, {"name": name, "sigma": sigma, "nodes": list(nodes), "weights": list(weights)})
        np.testing.assert_allclose(got["integral"], got["difference"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_exact_samples_have_the_mean_the_covariance_and_the_mode_weights_of_the_density(page: Any, name: str) -> None:
    n, sigma = 5000, 3.0
    script = (
        COMPONENTS
        + """
        const x = m.sample(a.n, 5, a.sigma);
        return { x: pack(x), moments: m.moments(), weights: [...m.modeWeights], rows: pack(m.responsibilities(x, a.sigma)) };
    """
    )
    got = run(page, script, {"name": name, "n": n, "sigma": sigma})
    x, moments = unpacked(got["x"]).reshape(-1, 2), got["moments"]
    off = x - [moments["x"], moments["y"]]
    assert np.all(np.abs(off.mean(0)) < 5 * off.std(0) / math.sqrt(n))
    for i, j, key in ((0, 0, "xx"), (0, 1, "xy"), (1, 1, "yy")):
        product = off[:, i] * off[:, j]
        assert abs(product.mean() - moments[key] - (sigma**2 if i == j else 0)) < 5 * product.std() / math.sqrt(n)
    rows = unpacked(got["rows"]).reshape(n, -1)
    assert np.all(np.abs(rows.mean(0) - got["weights"]) <= 5 * rows.std(0) / math.sqrt(n) + 1e-12)


def test_the_image_of_a_density_is_its_density_in_the_middle_of_every_cell(page: Any) -> None:
    script = (
        COMPONENTS
        + """
        const { window: w } = datasets.dataset(a.name), cells = 24, side = (2 * w.half) / cells;
        const across = (i) => w.x - w.half + side * ((i % cells) + 0.5);
        const down = (i) => w.y + w.half - side * (Math.floor(i / cells) + 0.5);
        const places = Float64Array.from({ length: 2 * cells * cells }, (_, i) => (i % 2 ? down(i >> 1) : across(i >> 1)));
        const grid = m.grid(w, cells, a.sigma);
        return { grid: [...grid], log: [...m.logDensity(places, a.sigma)], top: Math.max(...grid) };
    """
    )
    for name in NAMES:
        for sigma in (0.1, 3.0):
            got = run(page, script, {"name": name, "sigma": sigma})
            # beyond 6.5 standard deviations a component is left out: less than e^(-6.5²/2) = 7e-10 of its own top
            np.testing.assert_allclose(got["grid"], np.exp(got["log"]), rtol=0, atol=1e-8 * got["top"])


# --- random numbers ---------------------------------------------------------------------------------------------------


def test_the_words_of_random_numbers_are_those_of_python(page: Any) -> None:
    draw = random.Random(0)
    cases = [[draw.randrange(2**32) for _ in range(6)] for _ in range(50)] + [[0] * 6, [2**32 - 1] * 6]
    script = (
        "return a.map((case_) => { const words = new Uint32Array(4); random.philox(words, ...case_); return [...words]; });"
    )
    expected = [[int(word) for word in philox(tuple(torch.tensor(c) for c in case[:4]), (case[4], case[5]))] for case in cases]
    assert run(page, script, cases) == expected


def test_a_particle_owns_its_seed_whatever_the_number_of_the_others(page: Any) -> None:
    for sampler, start in (("sde", "wide"), ("mala", "box"), ("langevin", "truth"), ("annealed", "mode")):
        options = {"data": "pair", "sampler": sampler, "start": start, "step": 0.3, "sigma": 0.5, "steps": 12, "seed": 7}
        options |= {"levels": 10, "hold": 2} if sampler in ("sde", "annealed") else {}
        few, many = chain(page, n=20, **options), chain(page, n=300, **options)
        assert np.array_equal(few["x"], many["x"][:40])
        assert not np.array_equal(few["x"], chain(page, n=20, **{**options, "seed": 8})["x"])


# --- samplers ---------------------------------------------------------------------------------------------------------


def test_unadjusted_langevin_settles_at_the_variance_v_over_1_minus_tau_over_2v_and_metropolis_at_v(page: Any) -> None:
    sigma, n = 0.5, 5000
    v = 1 + sigma**2
    for share in (0.2, 1.0, 1.4):
        given = {"data": "blob", "sigma": sigma, "step": share * v, "start": "truth", "n": n, "steps": 40}
        plain = float(np.mean(chain(page, sampler="langevin", **given)["x"] ** 2))
        biased = v / (1 - share / 2)  # reached but for a factor |1 - share|^80 < 1e-7
        assert abs(plain - biased) < 5 * variance_error(biased, 2 * n)
        adjusted = chain(page, sampler="mala", **given)
        assert abs(float(np.mean(adjusted["x"] ** 2)) - v) < 5 * variance_error(v, 2 * n)
        assert 0 < adjusted["acceptance"] < 1


def test_metropolis_leaves_a_mixture_as_it_is_and_brings_a_wrong_start_to_it(page: Any) -> None:
    n = 4000
    for data, start, steps in (("moons", "truth", 30), ("thin", "box", 300)):
        given = {"data": data, "sigma": 0.9, "step": 0.7, "n": n}
        got = chain(page, sampler="mala", start=start, steps=steps, **given)
        truth = run(page, COMPONENTS + "return { ...m.moments(), weights: [...m.modeWeights] };", {"name": data})
        x = got["x"].reshape(-1, 2)
        for j, key in ((0, "x"), (1, "y")):
            assert abs(x[:, j].mean() - truth[key]) < 5 * x[:, j].std() / math.sqrt(n)
            square = (x[:, j] - truth[key]) ** 2
            assert abs(square.mean() - truth[key * 2] - 0.9**2) < 5 * square.std() / math.sqrt(n)


def test_metropolis_by_scores_alone_moves_as_by_densities_where_the_score_is_linear(page: Any) -> None:
    given = {"data": "blob", "sampler": "mala", "sigma": 0.3, "step": 1.2, "start": "box", "n": 500, "steps": 25}
    exact, line = chain(page, **given), chain(page, score=True, **given)
    np.testing.assert_allclose(line["x"], exact["x"], rtol=1e-9, atol=1e-9)
    assert (exact["evaluations"], line["evaluations"]) == (25, 50)


@pytest.mark.parametrize(("sampler", "order", "each"), [("euler", 1, 1), ("heun", 2, 2)])
def test_the_probability_flow_maps_a_gaussian_affinely_with_an_error_of_the_declared_order(
    page: Any, sampler: str, order: int, each: int
) -> None:
    low, high = 0.1, 5.0
    exact, errors = math.sqrt((1 + low**2) / (1 + high**2)), []
    for levels in (201, 401, 801):
        got = chain(page, data="blob", sampler=sampler, ends=[low, high], levels=levels, n=10)
        scales = got["x"] / got["start"]
        np.testing.assert_allclose(scales, scales[0], rtol=1e-12)  # affine: one factor for all
        assert (got["done"], got["evaluations"]) == (levels - 1, each * (levels - 1))
        errors.append(abs(scales[0] - exact))
    measured = [math.log2(errors[i] / errors[i + 1]) for i in (0, 1)]
    assert abs(measured[1] - order) < abs(measured[0] - order) < 0.05  # so the limit is the exact value


def test_the_reverse_sde_pushes_the_variance_of_a_gaussian_as_its_steps_say_with_an_error_of_order_1(page: Any) -> None:
    low, high, n = 0.1, 5.0, 5000

    def ends_at(levels: int) -> float:
        """The variance at the end: each step draws from q(x_below | x, x0 = denoised), and x0 ~ N(0, 1)."""
        ladder, variance = np.geomspace(high, low, levels), 1 + high**2
        for sigma, below in zip(ladder[:-1], ladder[1:], strict=True):
            ratio = (below / sigma) ** 2
            variance = (ratio + (1 - ratio) / (1 + sigma**2)) ** 2 * variance + below**2 * (1 - ratio)
        return float(variance)

    for levels in (10, 40):
        got = float(np.mean(chain(page, data="blob", sampler="sde", ends=[low, high], levels=levels, n=n)["x"] ** 2))
        assert abs(got - ends_at(levels)) < 5 * variance_error(ends_at(levels), 2 * n)
    errors = [abs(ends_at(levels) - (1 + low**2)) for levels in (201, 401, 801)]
    assert abs(math.log2(errors[1] / errors[2]) - 1) < abs(math.log2(errors[0] / errors[1]) - 1) < 0.05


def test_the_reverse_sde_ends_with_the_right_mode_weights(page: Any) -> None:
    n = 4000
    for data, weights in (("pair", [0.8, 0.2]), ("ring", [1 / 8] * 8)):
        shares = np.array(chain(page, data=data, sampler="sde", levels=100, n=n, seed=1)["shares"])
        assert np.all(np.abs(shares - weights) < 5 * np.sqrt(np.array(weights) * (1 - np.array(weights)) / n))


def test_plain_langevin_keeps_the_weights_of_its_start_and_annealed_langevin_finds_the_true_ones(page: Any) -> None:
    n = 1000
    plain = {"data": "pair", "sampler": "langevin", "sigma": 0.05, "step": 0.1, "n": n, "steps": 500}
    error = 5 * math.sqrt(0.25 / n)
    assert chain(page, start="mode", **plain)["shares"][1] > 0.99  # all began in the lighter mode, and stay there
    assert abs(chain(page, start="box", **plain)["shares"][0] - 0.5) < error
    annealed = {"data": "pair", "sampler": "annealed", "levels": 40, "hold": 30, "step": 0.05, "n": n}
    for start in ("wide", "mode"):
        assert abs(chain(page, start=start, **annealed)["shares"][0] - 0.8) < 5 * math.sqrt(0.8 * 0.2 / n)


def test_the_annealing_step_is_ncsnv2s(page: Any) -> None:
    from scorefield.ncsnv2 import closest_variance, variance_ratio

    for ratio, steps in ((1.1, 5), (1.3, 10), (1.04, 1), (1.5, 40)):
        h = run(page, "return samplers.annealingStep(a.ratio, a.steps);", {"ratio": ratio, "steps": steps})
        best = abs(closest_variance(ratio, steps)[1] - 1)
        assert abs(variance_ratio(h, ratio, steps) - 1) < best + 0.01  # on a grid of 4,000 steps instead of 200,000


# --- measures ---------------------------------------------------------------------------------------------------------


def test_the_sliced_distance_of_a_moved_copy_is_the_mean_length_of_the_move_seen_from_the_directions(page: Any) -> None:
    script = """
        const x = datasets.dataset("moons").mixture.sample(500, 2), moved = x.map((value, i) => value + (i % 2 ? -0.4 : 0.3));
        return [measures.slicedDistance(x, moved), measures.slicedDistance(x, x)];
    """
    angle = np.pi * np.arange(8) / 8
    assert run(page, script) == pytest.approx(
        [np.mean(np.abs(0.3 * np.cos(angle) - 0.4 * np.sin(angle))), 0], rel=1e-12, abs=1e-12
    )


FAKE = """({
  runs: async () => [
    { name: "field-moons-1", source: "upload" }, { name: "mine", source: "mixture" },
    ...(globalThis.asked ? [{ name: asked.given.out, step: 3, usable: true }] : []),
  ],
  score: async (run, positions, sigma) => {
    const set = globalThis.shown?.view.set ?? globalThis.set;
    const angle = run.startsWith("field-") ? learned_.angleOf(set.mixture) : 0;
    const exact = set.mixture.score(learned_.turned(positions, -angle), sigma);
    return { scores: learned_.turned(exact, angle).map((s) => s * (1 + globalThis.wrong)), step: 12, low: 0.02, high: 3 };
  },
  upload: async (name, body) => ((globalThis.uploaded = { name, body: [...body] }), "upload:1/" + name),
  job: async (verb, given) => ((globalThis.asked = { verb, given }), { id: "j", state: "running", text: "step 3" }),
  onJob: (id, tell) => ((globalThis.tell = tell), () => {}),
  cancel: async () => 200,
})""".replace("learned_", "globalThis.learned_")


def fake(page: Any, wrong: float) -> None:
    run(page, "globalThis.learned_ = learned; globalThis.wrong = a;", wrong)


def test_a_field_that_is_a_tenth_too_strong_has_the_relative_error_of_a_tenth_at_every_level(page: Any) -> None:
    fake(page, 0.1)
    script = f"""
        globalThis.shown?.(); globalThis.shown = null;
        const set = globalThis.set = datasets.dataset("moons"), source = {FAKE};
        const field = new learned.LearnedField(source, a, set), places = draw.arrowPlaces(set.window);
        const {{ relative, score, step }} = await field.compare(places, 0.4), {{ levels }} = await field.byLevel();
        const exact = [...set.mixture.score(places, 0.4)], outside = await field.compare(places, 3.5);
        return {{ relative, score: [...score], step, levels, exact, outside }};
    """
    for name in ("field-moons-1", "moons"):  # turned and not turned: the same
        got = run(page, script, name)
        assert got["relative"] == pytest.approx(0.1, rel=1e-5)  # positions and scores are float32 on the way
        assert [error for _, error in got["levels"]] == pytest.approx([0.1] * 8, rel=1e-3)
        assert got["levels"][0][0] == pytest.approx(0.02) and got["levels"][-1][0] == pytest.approx(3)
        np.testing.assert_allclose(got["score"], 1.1 * np.array(got["exact"]), rtol=1e-4, atol=1e-4)
        assert got["step"] == 12 and got["outside"]["sentence"].startswith("The run knows noise levels from 0.02 to 3")


def test_points_for_a_training_are_turned_to_one_variance_and_can_be_read_by_numpy(page: Any, tmp_path: Path) -> None:
    script = """
        const set = datasets.dataset(a), points = learned.trainingPoints(set, 600, 0);
        const back = learned.turned(points, -learned.angleOf(set.mixture));
        const file = String.fromCharCode(...npy.npy(points));
        return { file: btoa(file), back: pack(back), data: pack(set.mixture.sample(600, 0)) };
    """
    for name in NAMES:
        got = run(page, script, name)
        (tmp_path / "points.npy").write_bytes(base64.b64decode(got["file"]))
        points = np.load(tmp_path / "points.npy")
        assert points.shape == (600, 2) and points.dtype == np.float64
        np.testing.assert_allclose(unpacked(got["back"]), unpacked(got["data"]), rtol=1e-12, atol=1e-12)
        off = points - points.mean(0)
        difference = off[:, 0] ** 2 - off[:, 1] ** 2
        assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(len(points))


# --- the view ---------------------------------------------------------------------------------------------------------


def test_every_state_comes_back_from_its_address_and_what_cannot_be_read_is_named(page: Any) -> None:
    queries = [
        "",
        "lesson=bias",
        "lesson=weights&start=mode&n=50",
        "data=sketch&drawing=30_0_0_50_-20.10_100_100&sigma=0.4",
        "sampler=heun&levels=7&run=my run&follow=learned",
    ]
    for query in queries:
        once = run(
            page,
            "const { state: s, problems } = state.readState(a); return { state: s, problems, query: state.writeState(s) };",
            query,
        )
        again = run(page, "return state.readState(a).state;", once["query"])
        assert again == once["state"] and once["problems"] == []
    assert run(page, "return state.writeState(state.readState('').state);") == {}
    got = run(page, "return state.readState(a);", "sampler=langevine&n=0&levels=2.5&drawing=<b>&seed=3")
    assert got["state"]["seed"] == 3 and got["state"]["sampler"] == "langevin" and len(got["problems"]) == 4
    assert got["problems"][0].startswith("got drawing=<b>, expected") and "one of langevin, mala" in got["problems"][1]


def after(page: Any, query: str, steps: int) -> dict[str, Any]:
    """What the view holds after some steps."""
    mounted(page, query)
    found: dict[str, Any] = page.evaluate("async (n) => { await shown.view.step(n); return shown.view.data(); }", steps)
    assert found["step"] == steps and np.isfinite(found["positions"]).all()
    return found


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_lesson_runs_and_its_particles_stay_finite(page: Any, lesson: str) -> None:
    assert run(page, "return Object.keys(lessons.LESSONS);") == LESSONS
    assert np.isfinite(after(page, f"lesson={lesson}", 60)["distance"])
    assert page.locator(".field-look").inner_text().startswith("Look for:")


def test_the_lessons_show_the_numbers_that_they_speak_of(page: Any) -> None:
    first = {name: after(page, f"lesson={name}", steps) for name, steps in (("weights", 300), ("bias", 40), ("metropolis", 60))}
    assert abs(first["weights"]["modes"][0]["particles"] - 0.5) < 5 * math.sqrt(0.25 / 1000)
    v = 1 + 0.02**2
    for name, variance in (("bias", v / (1 - 1 / (2 * v))), ("metropolis", v)):
        assert abs(first[name]["variance"]["found"] - variance) < 5 * variance_error(variance, 4000)
    assert "these steps: 2)" in (mounted(page, "lesson=bias") or page.locator(".field-counters").inner_text())
    shares = [
        after(page, query, steps)["modes"][0]["particles"]
        for query, steps in (("lesson=annealing", 400), ("lesson=annealing&hold=30", 1200))
    ]
    error = math.sqrt(0.8 * 0.2 / 2000)
    assert abs(shares[0] - 0.78) < 5 * error and abs(shares[1] - 0.8) < 5 * error and shares[1] > shares[0]


def test_a_step_that_suits_a_level_throws_particles_off_a_curve_at_a_lower_one(page: Any) -> None:
    def width(query: str) -> float:
        """Root mean square distance from the curve y = sin 2x, to first order, over that of the density at its level."""
        found = after(page, query, 300)
        x, y = np.array(found["positions"]).T
        off = (y - np.sin(2 * x)) / np.sqrt(1 + 4 * np.cos(2 * x) ** 2)
        inside = np.abs(x) < 1.8  # without the ends
        return float(np.sqrt(np.mean(off[inside] ** 2)) / math.hypot(0.03, found["sigma"]))

    expected = 1 / math.sqrt(1 - 0.0018 / (2 * (0.03**2 + 0.01**2)))  # of a straight line: the variance v/(1 - tau/(2v))
    assert 2.5 < width("lesson=curve") < 4 and expected == pytest.approx(3.16, abs=0.01)
    assert 0.9 < width("lesson=curve&sigma=0.1") < 1.15


def test_the_same_seed_gives_the_same_particles_and_graph_whatever_the_speed(page: Any) -> None:
    found = []
    for speed in (30, 1000, None):
        mounted(page, f"data=ring&sampler=annealed&levels=8&hold=2&n=200&seed=3&speed={speed or 30}")
        if speed is None:
            page.evaluate("shown.view.step(5)")
            page.evaluate("shown.view.step(100)")
        else:
            page.get_by_role("button", name="Play").click()
        page.wait_for_function("shown.view.player.chain.finished && !shown.view.player.playing")
        assert page.locator(".field-status").first.inner_text() in ("Done after 16 steps.", "Ready.")
        found.append(page.evaluate("JSON.stringify([shown.view.data().positions, shown.view.data().series])"))
    assert len(set(found)) == 1


def test_a_step_that_is_too_large_ends_with_a_sentence(page: Any) -> None:
    mounted(page, "data=curve&sampler=langevin&sigma=0.01&tau=1&n=50&speed=1000")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("!shown.view.player.playing")
    assert "The step is too large" in page.locator(".field-status").inner_text()


def test_a_density_can_be_drawn_by_pointer_and_by_keyboard_and_is_kept_in_the_address(page: Any) -> None:
    mounted(page, "data=sketch&sampler=langevin")
    canvas = page.locator(".field-canvas").first
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5, steps=20)
    page.mouse.up()
    drawn = page.evaluate("shown.view.data().components")
    assert len(drawn) > 8 and all(abs(each["y"]) < 0.05 and each["std"] == 0.3 for each in drawn)
    assert all(right["x"] - left["x"] >= 0.29 for left, right in itertools.pairwise(drawn))  # one std apart, to a hundredth
    assert drawn[0]["x"] == pytest.approx(-2, abs=0.05) and drawn[-1]["x"] == pytest.approx(2, abs=0.35)
    canvas.press("ArrowUp")
    canvas.press("Shift+ArrowUp")
    canvas.press("Enter")
    with_blob = page.evaluate("shown.view.data()")
    assert [mode["name"] for mode in with_blob["modes"]] == ["stroke 1", "stroke 2"]
    assert with_blob["components"][-1]["y"] == pytest.approx(5 * 4 / 25)
    query = page.evaluate("new URLSearchParams(query).toString()")
    mounted(page, query)
    assert page.evaluate("shown.view.data().components") == with_blob["components"]
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate("shown.view.data().components.length") == len(drawn)
    page.get_by_role("button", name="Clear").click()
    assert page.evaluate("shown.view.state.drawing") == ""


def test_a_drawing_has_an_end_and_broken_ones_are_left_out(page: Any) -> None:
    long = ".".join(f"30_{i}_0" for i in range(300))
    got = run(
        page, "return a.map((text) => sketch.decodeStrokes(text));", [long, "", "x_1_2", "30_1", "0_1_1", "30_1_2_3.20_5_6"]
    )
    assert len(got[0]) == 160 and got[1:5] == [[], [], [], []]
    assert got[5] == [{"std": 0.3, "points": [[0.01, 0.02]]}, {"std": 0.2, "points": [[0.05, 0.06]]}]


def test_every_input_has_a_label_and_the_figures_say_what_they_show(page: Any) -> None:
    mounted(page, "data=sketch&sampler=annealed", FAKE)
    assert (
        page.evaluate("""[...document.querySelectorAll("input, select")].filter((each) => !each.labels.length).length""") == 0
    )
    for name in ("Noise level sigma", "Sampler", "Data set", "Seed", "Steps a second"):
        assert page.get_by_label(name, exact=False).count() >= 1
    assert "exact, with 1000 particles" in page.locator("canvas").first.get_attribute("aria-label")


def test_moving_the_noise_level_shows_the_density_there_and_keeps_the_particles(page: Any) -> None:
    mounted(page, "data=pair&sampler=langevin&sigma=0.1&n=100")
    page.evaluate("shown.view.step(3)")
    slider = page.get_by_label("Noise level sigma")
    before = page.evaluate("shown.view.data()")
    slider.press("End")
    after = page.evaluate("({ ...shown.view.data(), grid: Math.max(...shown.view.figures.grid) })")
    assert after["shown"] == after["sigma"] == 15 and after["positions"] == before["positions"] and after["step"] == 3
    # of two Gaussians of variance 1 + 15², 10 apart, the top is that of their sum
    expected = run(
        page, "const s = datasets.dataset('pair'); return Math.max(...s.mixture.grid(s.window, shown.view.figures.cells, 15));"
    )
    assert after["grid"] == expected and page.evaluate("query.sigma") == "15"


def test_without_a_server_nothing_is_shown_that_needs_one_and_with_one_the_error_is(page: Any) -> None:
    mounted(page)
    assert page.get_by_text("Learned beside exact").count() == 0
    assert page.locator("canvas:visible").count() == 2  # the figure and the graph
    fake(page, 0.2)
    mounted(page, "data=moons&run=field-moons-1&sampler=langevin&sigma=0.4", FAKE)
    page.wait_for_function("shown.view.live.found?.relative && shown.view.live.byLevel")
    assert page.evaluate("shown.view.data().learned.relative") == pytest.approx(0.2, rel=1e-5)
    assert "relative 20 %" in page.locator("figcaption").nth(2).inner_text()
    page.get_by_label("Learned run").select_option("mine")
    page.wait_for_function("shown.view.state.data === 'pair'")


def test_a_training_on_the_density_shown_uploads_its_points_and_its_error_is_followed(page: Any) -> None:
    fake(page, 0.3)
    mounted(page, "data=ring&seed=4&sampler=langevin", FAKE)
    page.get_by_role("button", name="Train on this density").click()
    page.wait_for_function("shown.view.live.curve.length >= 1")
    page.evaluate("globalThis.wrong = 0.05")
    page.wait_for_function("shown.view.live.curve.length >= 2 && shown.view.live.curve.at(-1)[1] < 0.06")
    page.evaluate("tell({ id: 'j', state: 'done', text: '' })")
    page.wait_for_function("shown.view.live.status.textContent.includes('done')")
    asked, uploaded = page.evaluate("asked"), page.evaluate("uploaded.name")
    assert (
        asked["verb"] == "train" and asked["given"]["source"] == "upload:1/field-ring-1.npy" and uploaded == "field-ring-1.npy"
    )
    assert asked["given"]["out"] == page.evaluate("query.run") == "field-ring-1" and asked["given"]["seconds"] == "60s"
    assert set(asked["given"]["settings"]) == {"training.checkpoint_seconds=1", "training.pictures=0"}
    curve = [error for _, error in page.evaluate("shown.view.live.curve")]
    assert curve[0] == pytest.approx(0.3, rel=1e-3) and curve[-1] == pytest.approx(0.05, rel=1e-3)


# --- the one file -----------------------------------------------------------------------------------------------------


def test_the_one_file_opens_without_a_server_asks_for_nothing_and_samples(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "field.html"
    assert main([str(path)]) == 0
    assert path.stat().st_size < 120_000
    asked, errors = [], []
    page = browser.new_context().new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(f"{path.as_uri()}#data=pair&sampler=sde&levels=12&n=300&speed=1000")
    pixels = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 300, 300).data.buffer"
    assert page.evaluate(f"new Set(new Uint32Array({pixels})).size") > 50  # colours
    page.get_by_role("button", name="Play").click()
    page.get_by_text("Done after 11 steps.").wait_for()
    page.get_by_label("Data set").select_option("ring")
    assert page.evaluate("location.hash") == "#data=ring&sampler=sde&levels=12&n=300&speed=1000"
    with page.expect_download() as got:
        page.get_by_role("button", name="Download data as JSON").click()
    saved = json.loads(Path(got.value.path()).read_text())
    assert saved["state"]["data"] == "ring" and len(saved["positions"]) == 300 and len(saved["components"]) == 8
    assert [url for url in asked if not url.startswith((path.as_uri(), "blob:"))] == [] and errors == []
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert refused == "refused" and any("Content Security Policy" in error for error in errors)


def test_the_file_in_the_docs_is_the_one_that_the_package_writes() -> None:
    kept = Path(__file__).parents[1] / "docs" / "field.html"
    assert kept.read_text(encoding="utf-8") == field_page(), "run python -m scorefield.web.standalone docs/field.html"


def test_the_one_file_names_no_other_address() -> None:
    assert re.findall(r"https?://|fetch\(|WebSocket|XMLHttpRequest|import\(", field_page()) == []


def test_the_view_is_as_wide_as_the_window_and_no_wider(page: Any) -> None:
    mounted(page, "lesson=annealing", FAKE)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".field-canvas").first.bounding_box()["width"] >= 0.8 * min(width, 640)
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        (
            {"a.js": 'import { b } from "./b.js";', "b.js": 'import { a } from "./a.js";\nexport const b = 1;'},
            "a.js -> b.js -> a.js",
        ),
        ({"a.js": 'import { b } from "./b.js";'}, "got an import of b.js"),
        ({"a.js": "export default 3;"}, "export default 3"),
        ({"a.js": 'import b from "./b.js";'}, "expected imports of the form"),
        ({"a.js": 'const b = import("./b.js");'}, "expected imports of the form"),
    ],
)
def test_what_cannot_be_joined_into_one_script_is_refused(tmp_path: Path, sources: dict[str, str], sentence: str) -> None:
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ScorefieldError, match=re.escape(sentence)):
        bundle(tmp_path, "a.js")


def test_modules_with_names_in_common_are_joined_without_a_clash(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text(
        'import { f, value as other } from "./b.js";\nconst value = 1;\nglobalThis.found = [value, other, f()];\n'
    )
    (tmp_path / "b.js").write_text("export const value = 2;\nexport function f() {\n  return value + 1;\n}\n")
    page = opened(browser)
    page.evaluate(bundle(tmp_path, "a.js"))
    assert page.evaluate("found") == [1, 2, 3]
