"""`scorefield list`: the names that can be used, each with its first sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass
class List:
    """List the components that have a name: processes, samplers, recipes, sources, networks, objectives and the rest.

    examples:
      scorefield list
      scorefield list sampler
    """

    kind: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KIND")] = "all"
    """Which kind, or all."""

    def run(self) -> None:
        """Print name and first sentence of each, and how it is written where it takes an argument."""
        from scorefield import registry

        for kind in registry.HOMES if self.kind == "all" else [self.kind]:
            print(f"{kind}:")
            for name, thing in registry.every(kind).items():
                print(f"  {name:20} {(thing.__doc__ or '').strip().splitlines()[0]}")
                of_text = vars(thing).get("of_text")  # of what takes an argument in a command
                if of_text is not None:
                    print(f"  {'':20} {registry.form(name, of_text.__func__.__doc__)}")
