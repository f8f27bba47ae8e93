"""Guidance: what changes a field or a sampler.

Guidance that changes the score wraps the field, and guidance that changes the state wraps the sampler, so that each of one kind
works with all of the other.
"""

from scorefield.guidance.autoguidance import Autoguidance
from scorefield.guidance.classifier import Classified, NoisyClassifier, train_classifier
from scorefield.guidance.classifier_free import ClassifierFree
from scorefield.guidance.clipped import Clipped
from scorefield.guidance.extrapolation import Extrapolated
from scorefield.guidance.feynman_kac import Tilted, feynman_kac
from scorefield.guidance.posterior import Measured, Posterior, posterior_sample
from scorefield.guidance.replacement import Filled, Replacement, fill_in
from scorefield.guidance.temperature import Tempered
from scorefield.guidance.tiles import Tiled

__all__ = [
    "Autoguidance",
    "Classified",
    "ClassifierFree",
    "Clipped",
    "Extrapolated",
    "Filled",
    "Measured",
    "NoisyClassifier",
    "Posterior",
    "Replacement",
    "Tempered",
    "Tiled",
    "Tilted",
    "feynman_kac",
    "fill_in",
    "posterior_sample",
    "train_classifier",
]
