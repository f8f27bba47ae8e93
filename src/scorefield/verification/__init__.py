"""Verification: every registered method measured against closed-form truth on the user's own machine."""
