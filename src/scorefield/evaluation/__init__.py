"""How good the samples of a run are: reference sets, figures, baselines, a verdict, and the report."""
