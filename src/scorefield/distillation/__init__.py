"""Distillation: a generator that draws in 1 to 4 evaluations, made of a trained field without any data."""
