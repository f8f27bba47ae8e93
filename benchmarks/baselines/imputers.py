"""Imputers of other libraries, run by a Python that has them: tables with holes in, draws out, each computed once.

    python benchmarks/baselines/imputers.py FOLDER --methods miceforest,missforest,forest_diffusion

FOLDER holds tasks, NAME.npz, as `benchmarks/tables.py` and `tables_in_sample.py` write them with --tasks:

    learn       (n, d), NaN in holes
    fill        (m, d), NaN in holes, or no rows: then `learn` itself is filled
    categories  numbers of the columns that hold classes
    integers    numbers of the columns that hold whole numbers
    draws       how many
    seed        of the draws

For each method FOLDER/METHOD/NAME.npz gets `draws`, (D, m, d), and `seconds`; a file that is there is left.

Known good: miceforest 6.0.5 and lightgbm 4.6.0; MissForest 4.2.3 with tqdm, which it does not ask for; ForestDiffusion 1.0.6
with xgboost 3.2.0 and catboost 1.2.10.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = Any  # the other Python's numpy has what it has
MICE, CORES = 5, 1  # iterations of miceforest, as published; cores


class Task:
    """What is in a file of a task."""

    def __init__(self, path: Path) -> None:
        held = np.load(path)
        self.learn, self.fill = held["learn"], held["fill"]
        self.categories, self.integers = [int(i) for i in held["categories"]], [int(i) for i in held["integers"]]
        self.draws, self.seed = int(held["draws"]), int(held["seed"])
        self.in_sample = len(self.fill) == 0


def miceforest(task: Task) -> Array:
    """Chained gradient-boosted trees with predictive mean matching (Wilson and others)."""
    import miceforest as mice
    import pandas as pd

    def frame(rows: Array) -> Any:
        made = pd.DataFrame(rows, columns=[f"x{i}" for i in range(rows.shape[1])])
        for i in task.categories:
            made[f"x{i}"] = pd.Categorical(rows[:, i], categories=np.unique(task.learn[~np.isnan(task.learn[:, i]), i]))
        return made

    learn = frame(task.learn)
    imputed = [name for name in learn.columns if task.in_sample is False or learn[name].isna().any()]
    kernel = mice.ImputationKernel(
        learn, num_datasets=task.draws, variable_schema=imputed, random_state=task.seed, save_all_iterations_data=True
    )
    kernel.mice(MICE, num_threads=CORES)
    filled = kernel if task.in_sample else kernel.impute_new_data(frame(task.fill), random_state=task.seed)
    return np.stack([filled.complete_data(dataset=k).astype(float).to_numpy() for k in range(task.draws)])


def missforest(task: Task) -> Array | None:
    """Chained forests, one completed table (Stekhoven, Bühlmann, 2012), as the package has it: boosted trees.

    The package refuses to learn from a table without a hole, so that it fills nothing out of sample.
    """
    import pandas as pd
    from missforest import MissForest

    if not task.in_sample:
        return None
    learn = pd.DataFrame(task.learn, columns=[f"x{i}" for i in range(task.learn.shape[1])])
    done = MissForest(categorical=[f"x{i}" for i in task.categories], verbose=0).fit_transform(learn)
    return np.repeat(done[learn.columns].to_numpy(dtype=float)[None], task.draws, axis=0)


def random_forests(task: Task) -> Array:
    """Chained random forests of 100 trees, as the published MissForest was: scikit-learn's, one completed table a draw."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    done = []
    for k in range(task.draws if task.in_sample else 1):
        own = IterativeImputer(RandomForestRegressor(100, n_jobs=CORES, random_state=k), max_iter=10, random_state=k)
        done.append(own.fit(task.learn).transform(task.learn if task.in_sample else task.fill))
    return np.stack(done) if task.in_sample else np.repeat(done[0][None], task.draws, axis=0)


def forest_diffusion(task: Task) -> Array:
    """Diffusion by gradient-boosted trees, variance preserving, 50 levels, with repainting, as published."""
    from ForestDiffusion import ForestDiffusionModel

    own = ForestDiffusionModel(
        task.learn, n_t=50, duplicate_K=100, diffusion_type="vp", cat_indexes=task.categories, int_indexes=task.integers,
        n_jobs=CORES, seed=task.seed,
    )  # fmt: skip
    given = None if task.in_sample else task.fill
    made = own.impute(k=task.draws, X=given, repaint=True, r=10, j=0.1)
    return np.asarray(made).reshape(task.draws, *(task.learn if task.in_sample else task.fill).shape)


METHODS: dict[str, Callable[[Task], Array | None]] = {
    "miceforest": miceforest,
    "missforest": missforest,
    "random_forests": random_forests,
    "forest_diffusion": forest_diffusion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default="miceforest,missforest,random_forests")
    parser.add_argument("--tasks", default="*", help="a pattern of names")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for method in options.methods.split(","):
        (options.folder / method).mkdir(exist_ok=True)
        for path in sorted(options.folder.glob(f"{options.tasks}.npz")):
            out = options.folder / method / path.name
            if out.exists():
                continue
            task, began = Task(path), time.process_time()
            draws = METHODS[method](task)
            if draws is None:
                continue
            seconds, holes = time.process_time() - began, task.learn if task.in_sample else task.fill
            if np.isnan(draws).any() or not np.array_equal(draws[0][~np.isnan(holes)], holes[~np.isnan(holes)]):
                print(f"{method} {path.stem}: holes are left, or known cells were changed", file=sys.stderr, flush=True)
            draws = np.where(np.isnan(holes), draws, holes)
            np.savez_compressed(out, draws=draws, seconds=seconds)
            print(f"{method} {path.stem}: {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
