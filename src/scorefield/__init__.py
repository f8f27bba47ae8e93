"""scorefield: learn the gradient of a log-density from your own data, and use it.

Names are loaded on first use, so `import scorefield` and `scorefield --help` cost no torch import.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__version__ = "0.7.0"

_HOMES = {
    "scorefield.errors": ["NotFinite", "ScorefieldError"],
    "scorefield.randomness": ["SampleRng"],
    "scorefield.process": [
        *("VE", "VP", "Cosine", "DDPMChain", "LinearVE", "Noiseless"),
        *("Process", "RectifiedFlow", "SubVP", "Tabulated"),
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


class _Moved:
    """Finds modules by the paths that they had; Python asks it last, for what is nowhere else."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.import_module("scorefield.renamed").moved(name) if name.startswith("scorefield.") else None


sys.meta_path.append(_Moved())


def __getattr__(name: str) -> Any:
    if name not in _home_of:
        return importlib.import_module("scorefield.renamed").attributes(__name__)(name)
    return getattr(importlib.import_module(_home_of[name]), name)


def __dir__() -> list[str]:
    return __all__
