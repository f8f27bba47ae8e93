"""Metrics: how close a set of samples is to a set of real data, each with a standard error and a direction."""
