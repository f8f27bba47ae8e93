"""Recipes: what each one trains is a field, as good between the levels of its training, and on any ladder, as on them."""

import math
from functools import cache

import pytest
import torch
from scipy import stats
from torch import Tensor

from scorefield import GaussianMixture, SampleRng, registry
from scorefield.config import RunConfig, override
from scorefield.data import DataConfig, of_sequence
from scorefield.field import ScoreModel
from scorefield.levels import ladder_of
from scorefield.noise_label import nearest_level
from scorefield.process import VE
from scorefield.recipes import data_stats
from scorefield.runs import build_model
from scorefield.samplers import ABM, Heun, Sampler, sample
from scorefield.training.loop import Trainer

# The papers' learning rates and averages are for trainings a thousand times as long.
SECONDS = (
    *("training.steps=200", "training.seconds=none", "training.pictures=0", "training.precision=float32", "training.batch=128"),
    *("training.ema=0.98", "optimiser.lr=3e-3", "optimiser.warmup=20", "optimiser.decay=0.6", "optimiser.clip=1"),
    *("network.width=64", "network.depth=3"),
)
WEIGHTS, MEANS, STDS = [0.7, 0.3], [-1.0, 1.5], [0.3, 0.5]


@cache
def _trained(recipe: str) -> tuple[RunConfig, ScoreModel, GaussianMixture]:
    """Train a recipe for seconds on 4,000 numbers of a mixture; return it with the exact field of their law in model space."""
    truth = GaussianMixture(WEIGHTS, [[mean] for mean in MEANS], STDS, VE(0.01, 10.0))
    data = of_sequence(truth.sample(SampleRng(range(4000))).numpy(), DataConfig())
    stats = data_stats(data)
    short = ("sampler.steps_per_level=20",) if recipe == "ncsn" else ()
    config = override(registry.find("recipe", recipe)(stats).config, (*SECONDS, *short))
    model = build_model(config, data.shape, stats.std, stats.mean)
    trainer = Trainer(config, data, model, None, torch.device("cpu"))
    for _ in trainer.run():
        pass
    encode = data.normaliser.encode
    means = encode(torch.tensor(MEANS).double()[:, None])
    scale = float(encode(torch.ones(1, 1)) - encode(torch.zeros(1, 1)))
    return config, trainer.average.eval(), GaussianMixture(WEIGHTS, means, [scale * std for std in STDS], config.process)


@torch.no_grad()
def _errors(recipe: str, times: Tensor, *, nearest: bool = False) -> Tensor:
    """sigma²·E‖s - grad log p_t‖² at each time: 0 for the exact field, about 1 for one that knows nothing.

    With `nearest`, of the exact field that is asked at the nearest level, as a network is that gets the number of a level.
    """
    config, model, truth = _trained(recipe)
    x0, found = truth.sample(SampleRng(range(400), stream=2)), []
    for j, time in enumerate(times):
        t = time.expand(len(x0))
        x = truth.process.perturb(x0, t, SampleRng(range(400), stream=3 + j).normal((1,)))
        if nearest and isinstance(label := config.parametrisation.noise_label, int):
            step, sigma = nearest_level(label, config.process, t)[1], config.process.sigma(t)[:, None]
            guess = (x - truth(x, step).denoised) / sigma  # recipes with levels have alpha = 1
        else:
            guess = truth(x, t).noise if nearest else model(x, t).noise
        found.append(float(((guess - truth(x, t).noise) ** 2).mean()))
    return torch.tensor(found)


@pytest.mark.parametrize("recipe", registry.names("recipe"))
def test_a_recipe_is_as_good_between_its_levels_as_on_them(recipe: str) -> None:
    """Between two levels of its ladder, or two whole times of a chain, where training never was. What a network that knows
    levels alone must lose there is computed from the exact field; twice the rest is another draw of the noise."""
    config, model, _ = _trained(recipe)
    own = ladder_of(model, config.ladder or config.sampler.ladder, config.levels)
    ratios = config.process.sigma(own) / config.process.alpha(own)
    between = config.process.time_of_sigma((ratios[1:] * ratios[:-1]).sqrt())
    own, between = (times[:: max(1, len(times) // 10)] for times in (own, between))
    assert float(_errors(recipe, own).mean()) < 0.1
    assert float(_errors(recipe, between).mean()) < 2 * float(
        _errors(recipe, own).mean() + _errors(recipe, between, nearest=True).mean()
    )


@pytest.mark.parametrize("recipe", registry.names("recipe"))
def test_a_recipe_draws_the_data_on_foreign_ladders_as_well_as_on_its_own(recipe: str) -> None:
    """Kolmogorov's distance to the law in closed form, within the 1 % bound of a perfect sampler on top of its own ladder's."""
    config, model, truth = _trained(recipe)
    n = 400

    def distance(sampler: Sampler, ladder: str, levels: int) -> float:
        x = sample(model, sampler, ladder_of(model, ladder, levels), rng=SampleRng(range(n), stream=9))[:, 0].numpy()
        parts = zip(WEIGHTS, truth.means[:, 0].tolist(), truth.stds.tolist(), strict=True)
        laws = [(weight, stats.norm(mean, std)) for weight, mean, std in parts]
        return float(stats.kstest(x, lambda z: sum(weight * law.cdf(z) for weight, law in laws)).statistic)

    own = distance(config.sampler, config.ladder or config.sampler.ladder, config.levels)
    for sampler, ladder, levels in [(ABM(), "log-cauchy", 20), (Heun(), "karras", 18), (ABM(), "geometric", 33)]:
        assert distance(sampler, ladder, levels) < own + 1.63 / math.sqrt(n), (ladder, own)
