"""Draws `learning_curve.png`. Imports matplotlib, so it is loaded by name when a run ends."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retrain_backends.tracking.summary import LearningCurve

BLUE = "#1f6feb"
ORANGE = "#d9730d"
GREY = "#57606a"


def save_learning_curve(curve: LearningCurve, title: str, path: Path) -> None:
    """Draw the correct rate of each step (faint), its running mean, and the evaluations.

    Args:
      curve: the data.
      title: the line above the plot: condition, seed, model.
      path: the PNG to write.
    """
    figure = Figure(figsize=(7.2, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(
        curve.steps,
        curve.rates,
        color=BLUE,
        alpha=0.25,
        linewidth=1,
        marker=".",
        markersize=4,
        label="each step",
    )
    axes.plot(
        curve.steps,
        curve.means,
        color=BLUE,
        linewidth=2.2,
        label=f"mean of the last {curve.window}" if curve.window > 1 else "mean",
    )
    if curve.held_out:
        axes.plot(
            [evaluation.step for evaluation in curve.held_out],
            [evaluation.accuracy for evaluation in curve.held_out],
            color=ORANGE,
            linewidth=1.2,
            marker="o",
            markersize=5,
            label=f"{curve.held_out[0].questions} held-out questions",
        )
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("step")
    axes.set_ylabel("correct rate")
    axes.set_title(title, fontsize=10, color=GREY, loc="left")
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.savefig(path)
