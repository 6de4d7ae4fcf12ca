import json
from itertools import pairwise
from pathlib import Path

import pytest

from retrain_backends.tracking.journal import Journal
from retrain_backends.tracking.log_check import (
    covered_steps,
    damage_of,
    rewind_logs,
    steps_logged,
)
from retrain_backends.tracking.log_digests import Mark, with_mark

METRICS = "metrics.jsonl"
KEYS = {"correct_rate": 0.5, "tokens_sampled": 2, "step_time_s": 0.1}


def write_steps(journal: Journal, steps: range) -> None:
    for step in steps:
        emergence = {"step": step, "mean_reward": 0.5, "total_count": 1}
        generation = {"step": step, "prompt": "1", "completion": f"half a pair \udc80 {step}"}
        journal.write({"step": step, **KEYS}, emergence, [generation])


@pytest.fixture
def marks(tmp_path) -> dict[str, list[Mark]]:
    """Those of a run of six steps, marked after every second one; two more are logged."""
    logs: dict[str, list[Mark]] = {}
    with Journal(tmp_path) as journal:
        for start, end in pairwise((0, 2, 4, 6)):
            write_steps(journal, range(start, end))
            logs = {
                name: with_mark(logs.get(name, []), mark) for name, mark in journal.flush().items()
            }
        write_steps(journal, range(6, 8))
    return logs


def edit(path: Path, change) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def set_line(number: int, old: bytes, new: bytes):
    def change(lines):
        lines[number - 1] = lines[number - 1].replace(old, new)

    return change


def keep(count: int):
    def change(lines):
        del lines[count:]

    return change


@pytest.mark.parametrize(
    ("change", "damage", "covered"),
    [
        (keep(8), "", 8),
        (keep(6), "", 6),
        (keep(5), "metrics.jsonl has 5 of 6 lines, and line 5 cannot be compared", 5),
        (keep(4), "metrics.jsonl has 4 of 6 lines", 4),
        (keep(0), "metrics.jsonl has 0 of 6 lines", 0),
        (set_line(8, b"0.5", b"0.6"), "", 8),  # written after the last mark
        (set_line(6, b"0.5", b"0.6"), "metrics.jsonl lines 5 to 6 changed", 8),
        (
            set_line(3, b"0.5", b"0.6"),
            "metrics.jsonl lines 3 to 4 changed, and lines 5 to 6 cannot be compared",
            8,
        ),
        (
            set_line(6, b'"step"', b'"stop"'),
            "metrics.jsonl lines 5 to 6 changed; line 6 is not a row of this log",
            5,
        ),
        (
            set_line(2, b"{", b"\xff"),
            "metrics.jsonl lines 1 to 2 changed, and lines 3 to 6 cannot be compared; line 2 is "
            "not a row of this log",
            1,
        ),
        (
            lambda lines: lines.insert(2, lines.pop(3)),
            "metrics.jsonl lines 3 to 4 changed, and lines 5 to 6 cannot be compared",
            2,
        ),
    ],
)
def test_damage_is_named_with_its_lines(tmp_path, marks, change, damage, covered):
    edit(tmp_path / METRICS, change)
    assert damage_of(tmp_path, METRICS, marks[METRICS]) == damage
    assert covered_steps(tmp_path) == covered


def test_a_missing_log_is_damaged_unless_it_was_empty(tmp_path, marks):
    (tmp_path / METRICS).unlink()
    assert damage_of(tmp_path, METRICS, marks[METRICS]) == "metrics.jsonl is missing (6 lines)"
    assert damage_of(tmp_path, "eval.jsonl", ()) == ""
    assert (covered_steps(tmp_path), steps_logged(tmp_path)) == (0, 0)


def test_only_logs_that_grow_may_be_longer_than_their_mark(tmp_path):
    name = "eval/step_000003.jsonl"
    with Journal(tmp_path) as journal:
        journal.write_evaluation(3, {"step": 3}, [{"index": 0}])
        marks = [journal.flush()[name]]
    assert damage_of(tmp_path, name, marks) == ""
    with (tmp_path / name).open("a") as file:
        file.write("more")
    assert damage_of(tmp_path, name, marks) == f"{name} has more than its 1 line"


def test_a_log_in_the_place_of_another_has_no_row_of_it(tmp_path, marks):
    name = "emergence/generations.jsonl"
    (tmp_path / name).write_bytes((tmp_path / METRICS).read_bytes())
    assert "lines 1, 2, 3 and 3 more are not rows of this log" in (
        damage_of(tmp_path, name, marks[name])
    )


def test_rewinding_an_intact_log_cuts_it(tmp_path, marks):
    whole = (tmp_path / METRICS).read_bytes()
    assert steps_logged(tmp_path) == 8
    assert rewind_logs(tmp_path, marks, (), 6) == marks
    assert (tmp_path / METRICS).read_bytes() == b"".join(whole.splitlines(keepends=True)[:6])
    assert steps_logged(tmp_path) == 6


@pytest.mark.parametrize("name", [METRICS, "emergence/steps.jsonl", "emergence/generations.jsonl"])
def test_rewinding_a_damaged_log_keeps_its_rows_and_puts_the_rest_aside(tmp_path, marks, name):
    edit(tmp_path / name, lambda lines: lines.pop(0))
    edit(tmp_path / name, set_line(2, b"{", b"?"))
    edit(tmp_path / name, set_line(7, b"\n", b""))  # torn
    logs = rewind_logs(tmp_path, marks, (name,), 6)
    steps = [json.loads(line)["step"] for line in (tmp_path / name).read_bytes().splitlines()]
    assert steps == [1, 3, 4, 5]
    assert (tmp_path / f"{name}.damaged").read_bytes().startswith(b'?"step": 2')
    assert damage_of(tmp_path, name, logs[name]) == ""
    assert logs[name][-1].lines == 4


def test_an_evaluation_at_the_checkpoint_stays(tmp_path):
    rows = [
        {"step": step, "accuracy": 1, "mean_reward": 1, "num_questions": 1, "time_s": 1}
        for step in (0, 6, 8)
    ]
    path = tmp_path / "eval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewind_logs(tmp_path, {}, ("eval.jsonl",), 6)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 6]


def test_a_log_without_a_mark_is_emptied(tmp_path, marks):
    assert rewind_logs(tmp_path, {}, (), 0) == {}
    assert (tmp_path / METRICS).read_bytes() == b""
