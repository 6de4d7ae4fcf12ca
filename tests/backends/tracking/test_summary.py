import numpy as np
import pytest

from retrain_backends.tracking.curve import save_learning_curve
from retrain_backends.tracking.summary import learning_curve, running_mean, window_of
from retrain_backends.tracking.terminal_plot import HEIGHT, draw_curve


def rows(*rates):
    return [{"step": step, "correct_rate": rate} for step, rate in enumerate(rates)]


def evaluations(*pairs):
    return [
        {"step": step, "accuracy": accuracy, "num_questions": 9, "time_s": 0.5}
        for step, accuracy in pairs
    ]


@pytest.mark.parametrize(("steps", "window"), [(0, 1), (4, 1), (12, 2), (60, 10), (500, 10)])
def test_window_is_a_fifth_of_the_run(steps, window):
    assert window_of(steps) == window


def test_running_mean_starts_short():
    means = running_mean(np.array([1.0, 0.0, 0.5, 0.5]), 2)
    assert means.tolist() == [1.0, 0.5, 0.25, 0.5]


def test_steps_without_a_rate_are_left_out():
    curve = learning_curve(rows(0.0, None, 1.0))
    assert curve.steps.tolist() == [0, 2]
    assert curve.rates.tolist() == [0, 1]
    assert learning_curve(rows(None)).rates.size == 0


def test_plot_fills_its_corners():
    lines = draw_curve(learning_curve(rows(0.0, 1.0)), last_step=1, width=20).plain.split("\n")
    assert len(lines) == HEIGHT + 2
    assert lines[0].startswith("1.0 ┤")
    assert lines[0][-1] != "\N{BRAILLE PATTERN BLANK}"
    assert lines[HEIGHT - 1][5] != "\N{BRAILLE PATTERN BLANK}"
    assert lines[-1].split() == ["0", "step", "1"]
    assert len(lines[-1]) == len(lines[-2])


def test_plot_marks_the_evaluations():
    marked = learning_curve(rows(0.0, 1.0), evaluations((0, 0.5), (1, None), (2, 1.0)))
    assert [(e.step, e.accuracy) for e in marked.held_out] == [(0, 0.5), (2, 1.0)]
    lines = draw_curve(marked, last_step=2, width=30).plain.split("\n")
    assert lines[0].endswith("●")
    assert lines[HEIGHT // 2].startswith("0.5 ┤●")
    assert lines[-1].split() == ["0", "step", "●", "held-out", "2"]
    assert len(lines[-1]) == len(lines[-2])


@pytest.mark.parametrize("held_out", [[], [(0, 0.1), (3, 0.8)]])
def test_png_is_written(tmp_path, held_out):
    curve = learning_curve(rows(0.1, 0.4, 0.9), evaluations(*held_out))
    save_learning_curve(curve, "a title", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
