"""Recipes on ladders that are not theirs: energy distance to held-out two-moons after a short training.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/foreign_ladders.py --steps 400

Each recipe is trained for the same steps (learning rates and averages are for minutes, not the papers'), then drawn by its own
sampler on its own ladder and by three others on theirs. A network that can be asked at any level is about as good on all four.
Beside them, the distance of a Gaussian with the data's mean and covariance: what a sampler reaches that knows nothing else.
"""

from __future__ import annotations

import argparse

import torch

from scorefield import SampleRng, registry
from scorefield.config import override
from scorefield.data import DataConfig, open_source
from scorefield.levels import ladder_of
from scorefield.metrics.two_sample import EnergyDistance
from scorefield.randomness import stream_of
from scorefield.recipes import data_stats
from scorefield.runs import build_model
from scorefield.samplers import ABM, Heun, sample
from scorefield.training.loop import Trainer

SETTINGS = (
    *("training.seconds=none", "training.pictures=0", "training.ema=0.99", "training.batch=256", "training.precision=float32"),
    *("optimiser.lr=2e-3", "optimiser.warmup=50", "optimiser.decay=0.5"),
)
SAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--recipes", nargs="+", default=registry.names("recipe"))
    arguments = parser.parse_args()
    data, energy = open_source("two-moons", DataConfig()), EnergyDistance()
    facts, real = data_stats(data), data.normaliser.encode(data.held_out[:]).double()
    white = SampleRng(range(SAMPLES), stream=stream_of("gaussian")).normal((2,))
    print("a Gaussian of the same covariance:", energy(real.mean(dim=0) + white @ torch.linalg.cholesky(real.T.cov()).T, real))
    print("training points:", energy(data.normaliser.encode(data.train[:SAMPLES]).double(), real))
    for name in arguments.recipes:
        config = override(registry.find("recipe", name)(facts).config, [*SETTINGS, f"training.steps={arguments.steps}"])
        model = build_model(config, data.shape, facts.std, facts.mean)
        trainer = Trainer(config, data, model, None, torch.device("cpu"))
        for _ in trainer.run():
            pass
        own = (config.sampler, config.ladder or config.sampler.ladder, config.levels)
        for sampler, ladder, levels in (own, (ABM(), "log-cauchy", 20), (ABM(), "geometric", 33), (Heun(), "karras", 18)):
            rng = SampleRng(range(SAMPLES), stream=stream_of("samples"))
            x = sample(trainer.average.eval(), sampler, ladder_of(model, ladder, levels), rng=rng)
            print(f"{name}: {registry.name_of('sampler', sampler)} on {levels} levels, {ladder}: {energy(x, real)}", flush=True)


if __name__ == "__main__":
    main()
