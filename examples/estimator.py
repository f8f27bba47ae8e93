"""scikit-learn's habits: learn a density of rows, then draw from it, evaluate it, denoise with it and fill gaps.

python examples/estimator.py
"""

import numpy as np

from scorefield import ScoreDensity

rng = np.random.default_rng(0)
height = rng.normal(175.0, 8.0, size=1000)  # cm
weight = 0.9 * (height - 100.0) + rng.normal(0.0, 6.0, size=1000)  # kg
people = np.column_stack([height, weight])

density = ScoreDensity(max_steps=150, random_state=0).fit(people)
print("three people:", density.sample(3, random_state=0).round(1).tolist())
print("log-density of 180 cm with 72 kg and with 120 kg:", density.score_samples([[180.0, 72.0], [180.0, 120.0]]).round(1))
print("180 cm, weight unknown; its mean:", density.impute([[180.0, np.nan]], mean=True, random_state=0).round(1))
