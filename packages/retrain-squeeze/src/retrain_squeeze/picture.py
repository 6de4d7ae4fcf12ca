"""Draw `squeeze.png`. Imports matplotlib, so this module is imported by name when it is needed."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from retrain_squeeze.analysis import ModuleCurve, SqueezeAnalysis

BLUE = "#1f6feb"
ORANGE = "#d9730d"
GREY = "#57606a"


def save_picture(analysis: SqueezeAnalysis, title: str, path: Path) -> None:
    """Draw the variance kept at every rank: mean and range of the modules, and the recommendation.

    Args:
      analysis: the analysis to draw.
      title: the line above the plot, such as the adapter's path.
      path: the PNG to write.
    """
    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    kept_MK = 100 * retained_by_rank(analysis.nonzero_modules, analysis.source_rank)
    ranks_K = np.arange(1, kept_MK.shape[1] + 1)
    axes.fill_between(
        ranks_K,
        kept_MK.min(axis=0),
        kept_MK.max(axis=0),
        color=BLUE,
        alpha=0.15,
        linewidth=0,
        label="lowest to highest module",
    )
    count = len(analysis.nonzero_modules)
    label = f"mean of {count} modules" if count > 1 else "the module"
    axes.plot(ranks_K, kept_MK.mean(axis=0), color=BLUE, linewidth=2.2, label=label)
    _mark_recommendation(axes, analysis)
    _format_axes(axes, analysis, title)
    figure.savefig(path)


def retained_by_rank(modules: tuple[ModuleCurve, ...], rank: int) -> NDArray[np.float64]:
    """V(k) of each module for k = 1..rank; 1 from the module's own rank on.

    Args:
      modules: the modules' curves.
      rank: the largest k.

    Returns:
      Shares of variance in [0, 1], shape [modules, rank].
    """
    kept_MK = np.ones((len(modules), rank))
    for row, module in zip(kept_MK, modules, strict=True):
        known = module.retained[:rank]
        row[: len(known)] = known
    return kept_MK


def _mark_recommendation(axes: Axes, analysis: SqueezeAnalysis) -> None:
    threshold = 100 * analysis.min_variance_retention
    axes.axhline(
        threshold, color=GREY, linewidth=1, linestyle="--", label=f"threshold {threshold:g}%"
    )
    rank = analysis.recommended_rank
    mean = 100 * analysis.mean_retained(rank)
    axes.axvline(rank, color=ORANGE, linewidth=1, alpha=0.6)
    axes.plot(
        [rank],
        [mean],
        color=ORANGE,
        marker="o",
        markersize=7,
        linestyle="none",
        label=f"recommended: rank {rank}, {mean:.1f}%",
    )


def _format_axes(axes: Axes, analysis: SqueezeAnalysis, title: str) -> None:
    axes.set_xscale("log", base=2)
    ticks = sorted({row.rank for row in analysis.table} | {1, analysis.source_rank})
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(-2, 102)
    axes.set_xlabel(f"rank (the adapter has {analysis.source_rank})")
    axes.set_ylabel("variance kept, %")
    axes.set_title(title, fontsize=10, color=GREY, loc="left")
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(framealpha=0.9, edgecolor="none", loc="lower right")
