import numpy as np
import pytest
from rich.console import Console

from retrain_backends.errors import ConfigError
from retrain_campaign.report.compare import (
    Spread,
    compare,
    comparison_table,
    draw_campaign,
    missing_lines,
)


def flat(rate: float) -> list[float]:
    return [rate] * 10


def text_of(table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.fixture
def campaign(tmp_path, leave_campaign):
    """One condition is done with three seeds, one with one seed, one with none."""
    runs = {
        ("grpo+none", 1): ("done", flat(0.2), [(0, 0.1), (10, 0.3)]),
        ("grpo+none", 2): ("done", flat(0.4), [(0, 0.1), (10, 0.4)]),
        ("grpo+none", 3): ("done", flat(0.6), [(10, None)]),
        ("maxrl+gtpo", 1): ("done", [None, *flat(0.5)[1:]]),
        ("maxrl+gtpo", 2): ("running", [0.9, 0.9]),
        ("maxrl+gtpo", 3): ("failed", [1.0]),
        ("maxrl+none", 1): ("planned", []),
    }
    return leave_campaign(tmp_path / "campaign", runs)


def test_mean_and_deviation_over_the_seeds(campaign):
    grpo, gtpo, none = compare(campaign).conditions
    assert grpo.seeds == (1, 2, 3)
    assert grpo.correct == Spread(3, pytest.approx(0.4), pytest.approx(0.2))
    assert grpo.held_out == Spread(
        2, pytest.approx(0.35), pytest.approx(np.std([0.3, 0.4], ddof=1))
    )
    assert gtpo.correct == Spread(1, pytest.approx(0.5), None)
    assert (none.correct, none.curve) == (Spread(0, None, None), None)


def test_runs_that_are_not_done_are_missing(campaign):
    comparison = compare(campaign)
    assert comparison.done == 4
    assert list(missing_lines(comparison)) == [
        "4 of 7 runs are done and compared; missing:",
        "  maxrl+gtpo_s2 (running)",
        "  maxrl+gtpo_s3 (failed)",
        "  maxrl+none_s1 (planned)",
    ]
    assert list(missing_lines(comparison, most=1))[1:] == [
        "  maxrl+gtpo_s2 (running)",
        "  and 2 more",
    ]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda run: run.rename(run.parent / "elsewhere"), "its directory is gone"),
        (lambda run: (run / "final").rmdir(), "its adapter is gone"),
        (
            lambda run: (run / "metrics.jsonl").write_text('{"step": 9, "correct_rate": 0.5}\n'),
            "metrics.jsonl has 1 of 10 steps",
        ),
        (
            lambda run: (run / "metrics.jsonl").write_text('oops\n{"step": 9}\n'),
            "its logs cannot be read (JSONDecodeError: Expecting value: line 1 column 1 (char 0))",
        ),
    ],
)
def test_a_finished_run_whose_results_are_damaged_is_missing(campaign, damage, what):
    damage(campaign / "runs/grpo+none_s2")
    comparison = compare(campaign)
    assert comparison.conditions[0].seeds == (1, 3)
    assert ("grpo+none_s2", f"was done, but {what}") in comparison.missing
    assert "2 of 3" in text_of(comparison_table(comparison))


def test_a_damaged_manifest_is_named(campaign):
    (campaign / "manifest.json").write_text("{")
    lines = list(missing_lines(compare(campaign)))
    assert lines[0].startswith(f"{campaign / 'manifest.json'}: is damaged")


def test_curves_have_the_steps_that_were_scored(campaign):
    grpo, gtpo, _ = compare(campaign).conditions
    assert grpo.curve.steps.tolist() == list(range(10))
    np.testing.assert_allclose(grpo.curve.means, 0.4)
    np.testing.assert_allclose(grpo.curve.sds, 0.2)
    assert gtpo.curve.steps.tolist() == list(range(1, 10))
    np.testing.assert_array_equal(gtpo.curve.sds, 0)


def test_the_table(campaign):
    lines = text_of(comparison_table(compare(campaign))).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "condition", "grpo+none", "maxrl+gtpo", "maxrl+none",
    ]  # fmt: skip
    assert "40.0 ±  20.0 %" in lines[1]
    assert "35.0 ±   7.1 % (2 of 3)" in lines[1]
    assert "1 of 3" in lines[2]
    assert "50.0 ±     - %" in lines[2]


def test_a_campaign_without_evaluations_has_no_column_for_them(tmp_path, leave_campaign):
    directory = leave_campaign(tmp_path / "c", {("grpo+none", 1): ("done", flat(0.5))})
    comparison = compare(directory)
    assert "held-out" not in text_of(comparison_table(comparison))
    assert list(missing_lines(comparison)) == []


def test_the_picture(campaign, tmp_path):
    draw_campaign(compare(campaign), tmp_path / "campaign.png")
    assert (tmp_path / "campaign.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_done_nothing_drawn(tmp_path, leave_campaign):
    directory = leave_campaign(tmp_path / "c", {("grpo+none", 1): ("running", [0.5])})
    draw_campaign(compare(directory), tmp_path / "campaign.png")
    assert not (tmp_path / "campaign.png").exists()


def test_no_campaign(tmp_path):
    with pytest.raises(ConfigError, match="is not a campaign"):
        compare(tmp_path)
