"""scorefield: learn the gradient of a log-density from your own data, and use it.

Names are loaded on first use, so `import scorefield` and `scorefield --help` cost no torch import.
"""

from __future__ import annotations

import importlib
from typing import Any

from scorefield import renamed

__version__ = "0.6.0"

_HOMES = {
    "scorefield.errors": ["NotFinite", "ScorefieldError"],
    "scorefield.randomness": ["SampleRng"],
    "scorefield.process": [
        "VE",
        "VP",
        "Cosine",
        "DDPMChain",
        "RectifiedFlow",
        "LinearVE",
        "Process",
        "Noiseless",
        "SubVP",
        "Tabulated",
    ],
    "scorefield.levels": ["Level", "Levels", "LogNormal", "Steps", "Uniform", "log_cauchy", "geometric", "karras", "uniform"],
    "scorefield.prediction": [
        *("EDM", "Denoiser", "Energy", "NoisePrediction", "Parametrisation", "Prediction"),
        *("ScaledScore", "Score", "V", "Velocity"),
    ],
    "scorefield.field": ["EnergyField", "EnergyModel", "Field", "ScoreModel"],
    "scorefield.exact": ["Gaussian", "GaussianMixture"],
    "scorefield.estimator": ["ScoreDensity"],
}
_home_of = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_home_of]
_renamed = renamed.attributes(__name__)


def __getattr__(name: str) -> Any:
    if name not in _home_of:
        return _renamed(name)
    return getattr(importlib.import_module(_home_of[name]), name)


def __dir__() -> list[str]:
    return __all__
