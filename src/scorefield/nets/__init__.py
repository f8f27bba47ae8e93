"""Networks: `network(x, label, cond) -> y`, x and y `(batch, *shape)`, label `(batch,)`. One network, one file.

Networks know nothing of processes or scores: the label is whatever number they are told about the noise.
"""
