import io
from pathlib import Path

import pytest
from rich.console import Console

from retrain_backends.tracking.console import (
    LiveView,
    PlainView,
    evaluation_figures,
    figures,
    print_summary,
    step_view,
)
from retrain_backends.tracking.summary import HeldOut, RunSummary, learning_curve


def row(step: int, **changes: object) -> dict[str, object]:
    return {
        "step": step, "correct_rate": 0.25, "running_correct_rate": 0.2, "mean_reward": 0.25,
        "loss": -0.5, "tokens_per_second": 1234.5, "step_time_s": 0.5, "no_verdict_count": 0,
        **changes,
    }  # fmt: skip


def evaluation(step: int, **changes: object) -> dict[str, object]:
    return {
        "step": step, "accuracy": 0.5, "mean_reward": 0.25, "pass_at_1": 0.5, "pass_at_8": 0.875,
        "num_questions": 50, "no_verdict_count": 0, "time_s": 1.5, **changes,
    }  # fmt: skip


@pytest.fixture
def plain() -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8"), highlight=False, width=80)


@pytest.fixture
def terminal() -> Console:
    return Console(
        file=io.TextIOWrapper(io.BytesIO(), "utf-8"), force_terminal=True, width=80, height=30
    )


def shown(console: Console) -> str:
    console.file.flush()
    return console.file.buffer.getvalue().decode()  # pyright: ignore


def test_figures_of_a_step():
    assert figures(row(0)) == (
        "correct 0.250  running 0.200  reward 0.250  loss -0.5000  1,234 tokens/s  0.50 s"
    )


def test_what_is_unknown_is_a_dash_and_missing_verdicts_are_shown():
    line = figures(row(0, loss=None, correct_rate=None, no_verdict_count=3))
    assert line.startswith("correct -  ")
    assert "loss -  " in line
    assert line.endswith("no verdict 3")
    assert figures(row(0, no_verdict_count=1, failed_prompts=2)).endswith(
        "no verdict 1  no answer 2"
    )


def test_figures_of_an_evaluation():
    assert evaluation_figures(evaluation(20)) == (
        "correct 0.500  pass@8 0.875  reward 0.250  50 questions  1.50 s"
    )
    unknown = evaluation_figures(evaluation(20, accuracy=None, pass_at_8=None, no_verdict_count=50))
    assert unknown.startswith("correct -  pass@8 -  ")
    assert unknown.endswith("no verdict 50")
    assert evaluation_figures(evaluation(20, failed_questions=4)).endswith("no answer 4")


def test_plain_view_prints_a_line_an_evaluation(plain):
    with step_view(plain, 2) as view:
        view.announce("evaluating")
        view.evaluation(evaluation(0))
        view.step(row(0))
        view.evaluation(evaluation(1))
    lines = shown(plain).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["eval 0/2", "step 1/2", "eval 1/2"]


def test_live_view_says_that_it_evaluates_and_then_what_came_out(terminal):
    with step_view(terminal, 4) as view:
        view.announce("evaluating: 0 of 50 questions")
    assert "evaluating: 0 of 50 questions" in shown(terminal)
    with step_view(terminal, 4) as view:
        view.evaluation(evaluation(0))
        view.step(row(0))
        view.step(row(1))
        view.evaluation(evaluation(2))
    text = shown(terminal)
    assert "eval 2/4  correct 0.500" in text
    assert "● held-out" in text


def test_plain_view_prints_a_line_a_step(plain):
    with step_view(plain, 2) as view:
        assert isinstance(view, PlainView)
        view.step(row(0))
        view.step(row(1))
    lines = shown(plain).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/2", "step 2/2"]


def test_live_view_shows_progress_figures_and_curve(terminal):
    with step_view(terminal, 4) as view:
        assert isinstance(view, LiveView)
        view.step(row(0))
        view.step(row(1, correct_rate=0.75))
    text = shown(terminal)
    assert "step 2/4" in text
    assert "1,234 tokens/s" in text
    assert "1.0 ┤" in text


def test_live_view_does_without_the_curve_on_a_low_terminal(terminal):
    terminal.height = 10
    with step_view(terminal, 4) as view:
        view.step(row(0))
        view.step(row(1))
    assert "1.0 ┤" not in shown(terminal)


@pytest.mark.parametrize("console", ["plain", "terminal"])
def test_summary_says_what_came_out_and_where_it_is(console, request):
    to = request.getfixturevalue(console)
    long_path = "/" + "x" * 120
    summary = RunSummary(
        run_dir=Path("logs/train"), adapter=long_path, condition="maxrl+gtpo", seed=7, steps=2,
        window=1, first_rate=0.25, last_rate=0.75, tokens_sampled=1234, time_s=3.25,
        held_out=[HeldOut(0, 0.3, 50, 0.5), HeldOut(2, 0.7, 50, 0.25)],
    )  # fmt: skip
    rows = [row(0), row(1, correct_rate=0.75)]
    print_summary(to, summary, learning_curve(rows, [evaluation(0), evaluation(2)]))
    text = shown(to)
    assert "25.0% in the first step, 75.0% in the last (+50.0 points)" in text
    assert "2 steps, 1,234 tokens, 3.2 s, evaluations 0.8 s" in text
    assert "30.0% before, 70.0% after 2 steps (+40.0 points, 50 questions)" in text
    assert "● held-out" in text
    assert "1.0 ┤" in text
    assert text.count("x") >= 120


def test_summary_of_a_run_without_verdicts(plain):
    summary = RunSummary(Path("logs"), None, "maxrl", 7, 1, 1, None, None, 10, 1.0)
    print_summary(plain, summary, learning_curve([row(0, correct_rate=None)]))
    text = shown(plain)
    assert "no step had a completion with a verdict" in text
    assert "adapter: none" in text
    assert "held-out" not in text


def test_a_console_without_unicode_gets_no_dots():
    console = Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"), width=80)
    summary = RunSummary(Path("logs"), "a", "maxrl", 7, 2, 1, 0.5, 0.5, 10, 1.0)
    print_summary(console, summary, learning_curve([row(0), row(1)]))
    assert "┤" not in shown(console)
