"""The learning curve in the terminal, drawn in braille dots."""

from itertools import pairwise

from plotille import Canvas
from rich.text import Text

from retrain_backends.tracking.summary import LearningCurve

HEIGHT = 9  # lines of the plotting area, so that 1.0, 0.5 and 0.0 each have a line
HELD_OUT_MARK = "●"


def draw_curve(curve: LearningCurve, *, last_step: int, width: int = 60) -> Text:
    """The correct rate by step: faint dots for each step, a line for the running mean.

    Evaluations on held-out questions are marked, and named under the axis.

    Args:
      curve: the data.
      last_step: the right end of the axis, so that a growing curve keeps its scale.
      width: of the plotting area, in characters.

    Returns:
      `HEIGHT + 2` lines.
    """
    # The canvas excludes its upper limits; with these the last dots lie on last_step and on 1.
    x_end = max(1, last_step) * 2 * width / (2 * width - 1)
    y_end = 4 * HEIGHT / (4 * HEIGHT - 1)
    canvas = Canvas(width, HEIGHT, xmin=0, ymin=0, xmax=x_end, ymax=y_end, mode="names")
    for step, rate in zip(curve.steps, curve.rates, strict=True):
        canvas.point(float(step), float(rate), color="bright_black")
    line = list(zip(curve.steps.tolist(), curve.means.tolist(), strict=True))
    for (x0, y0), (x1, y1) in pairwise(line):
        canvas.line(x0, y0, x1, y1, color="green")
    for evaluation in curve.held_out:
        canvas.point(evaluation.step, evaluation.accuracy, color="yellow", marker=HELD_OUT_MARK)
    labels = {0: "1.0 ┤", HEIGHT // 2: "0.5 ┤", HEIGHT - 1: "0.0 ┤"}
    rows = canvas.plot().split("\n")
    framed = [labels.get(index, "    │") + row for index, row in enumerate(rows)]
    name = f"step   {HELD_OUT_MARK} held-out" if curve.held_out else "step"
    ruler = name.center(width - len(str(last_step)) - 1)
    return Text.from_ansi("\n".join([*framed, "    └" + "─" * width, f"     0{ruler}{last_step}"]))
