"""What a person asks of a training: `train` and `plan` take it, and each field may be given to them as a keyword.

>>> TrainSpec(steps=100, size=(48, 64), flip=True, settings=("training.batch=64",)).changes
('data.size=48,64', 'data.flip=true', 'training.batch=64')

Nothing slow is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class TrainSpec:
    """What a person asks of a training; the recipe chooses the rest.

    Attributes:
        seconds: of training, at most, but for one step; with neither this nor `steps`, 180.
        steps: of the optimiser, at most. With this alone the result does not depend on the clock: the same seed and steps give
            the same weights, to the last bit on the same machine with the same number of threads. Another number of threads
            adds sums in another order, and the last digits differ. The run's manifest says how many there were.
        recipe: name of the recipe that chooses everything else; None for auto, or the run's own when it goes on.
        settings: `dotted.key=value` changes to the recipe's choices.
        seed: of weights, data order and noise; None for 0, or the run's own when it goes on.
        size: of images, in pixels: a side, or (height, width); None for theirs if all have one, else chosen from the data.
        fit: how images of another shape are brought to it; None for crop.
        flip: whether training sees each image mirrored left to right half of the time.
    """

    __flat__: ClassVar[bool] = True  # a function that takes one takes the fields as keywords, too (`app/arguments.py`)

    seconds: float | None = None
    steps: int | None = None
    recipe: str | None = None
    settings: tuple[str, ...] = ()
    seed: int | None = None
    size: int | tuple[int, int] | None = None
    fit: Literal["crop", "pad", "stretch"] | None = None
    flip: bool = False

    @property
    def changes(self) -> tuple[str, ...]:
        """All changes to the recipe's choices, as settings; `settings` come last, for of two for one key the later holds."""
        side = self.size if self.size is None or isinstance(self.size, int) else ",".join(map(str, self.size))
        return (
            *(() if side is None else (f"data.size={side}",)),
            *(() if self.fit is None else (f"data.fit={self.fit}",)),
            *(("data.flip=true",) if self.flip else ()),
            *self.settings,
        )
