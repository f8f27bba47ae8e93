"""Networks of published models, rebuilt: one architecture, one file. Their tensors have the names of the published weights."""
