"""Which way of sampling a run is the cheapest that is as good as the best: candidates, successive halving, choice."""
