"""Objectives: `objective(field, x0, cond, noise=...) -> one loss per example`. They know fields, never networks."""
