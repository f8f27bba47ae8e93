"""Likelihoods: the log-density that a field gives to a point, by the probability flow and by a bound, and their units."""

from scorefield.likelihood.elbo import Elbo, elbo
from scorefield.likelihood.flow import Divergence, Exact, Hutchinson, LogProb, data_log_prob, log_prob
from scorefield.likelihood.support import Section, Support, spread, support_of
from scorefield.likelihood.units import bits_per_dim, dequantise, grey_levels, raw_nats

__all__ = [
    "Divergence",
    "Elbo",
    "Exact",
    "Hutchinson",
    "LogProb",
    "Section",
    "Support",
    "bits_per_dim",
    "data_log_prob",
    "dequantise",
    "elbo",
    "grey_levels",
    "log_prob",
    "raw_nats",
    "spread",
    "support_of",
]
