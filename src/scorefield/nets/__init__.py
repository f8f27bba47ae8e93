"""Networks: `network(x, label, cond) -> y`, x and y `(batch, *shape)`, label `(batch,)`. One network, one file.

Networks use no process and no score: they are conditioned on a number, the noise label.
"""
