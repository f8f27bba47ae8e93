"""How figures of the lessons look: eight colours that stay apart for colour-blind readers, and quiet axes."""

from typing import Any

from cycler import cycler

# Okabe, Ito (2008), "Color universal design": black, blue, vermilion, bluish green, orange, sky blue, reddish purple
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7")
STYLE: dict[str, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS[1:] + COLOURS[:1]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "figure.figsize": (7.2, 3.4),
    "font.size": 10,
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def reset(gallery_conf: dict[str, Any], name: Any, when: str = "before") -> None:
    """Give every lesson the same style: Sphinx-Gallery calls this before each of them, after it has reset matplotlib."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
