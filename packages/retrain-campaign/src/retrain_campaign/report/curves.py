"""Draws `campaign.png`. Loaded by name, since it imports matplotlib."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from retrain_campaign.report.compare import Comparison

_GREY = "#57606a"
# Distinguishable with colour blindness; more conditions than colours differ by dashes.
_COLOURS = ("#1f6feb", "#d9730d", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#57606a", "#0a7ea4")
_DASHES = ("-", "--", ":", "-.")


def save_curves(comparison: Comparison, path: Path) -> None:
    """Draw each condition's mean correct rate over its seeds, ± one standard deviation.

    Args:
      comparison: with at least one run that is done.
      path: the PNG to write.
    """
    drawn = [(result, result.curve) for result in comparison.conditions if result.curve is not None]
    figure = Figure(figsize=(8.4, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, (result, curve) in enumerate(drawn):
        colour = _COLOURS[index % len(_COLOURS)]
        dashes = _DASHES[index // len(_COLOURS) % len(_DASHES)]
        seeds = f"{len(result.seeds)} seed{'s' * (len(result.seeds) != 1)}"
        axes.plot(
            curve.steps,
            curve.means,
            color=colour,
            linestyle=dashes,
            linewidth=2,
            marker="." if len(curve.steps) == 1 else None,
            label=f"{result.condition} ({seeds})",
        )
        axes.fill_between(
            curve.steps,
            curve.means - curve.sds,
            curve.means + curve.sds,
            color=colour,
            alpha=0.14,
            linewidth=0,
        )
    window = max(result.window for result, _ in drawn)
    smoothed = f", mean of the last {window} steps" if window > 1 else ""
    missing = f"; {len(comparison.missing)} runs missing" if comparison.missing else ""
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"correct rate{smoothed}")
    axes.set_title(
        f"{comparison.name}: mean and standard deviation over seeds{missing}",
        fontsize=10,
        color=_GREY,
        loc="left",
    )
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    with mpl.rc_context({"legend.fontsize": 8 if len(drawn) > 6 else 9}):
        axes.legend(frameon=False, loc="best", ncols=1 + (len(drawn) > 6))
    figure.savefig(path)
