import contextlib
import io
import subprocess
import sys
from subprocess import PIPE

import pytest
from rich.console import Console

from retrain_campaign.console import PlainView, ending_line, print_failures, starting_line
from retrain_campaign.ledger import Ledger
from retrain_campaign.manifest import RunEntry, read_manifest
from retrain_campaign.table import Progress, TableView, view_for

RUNS = {
    ("grpo+none", 1): ("done", [0.2] * 10),
    ("grpo+none", 2): ("running", [0.1, 0.3]),
    ("maxrl+none", 1): ("failed", [0.5]),
    ("maxrl+none", 2): ("planned", []),
}


@pytest.fixture
def ledger(tmp_path, leave_campaign):
    directory = leave_campaign(tmp_path / "c", RUNS)
    with contextlib.closing(Ledger(directory, read_manifest(directory))) as ledger:
        yield ledger


def terminal(**options):
    return Console(file=io.StringIO(), force_terminal=True, width=100, **options)


def drawn(view, console):
    with console.capture() as capture:
        console.print(view.render())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_row_a_run_and_the_totals(ledger):
    console = terminal(height=40, color_system=None)
    lines = drawn(TableView(console, ledger), console)
    assert lines[0].split() == ["run", "state", "step", "correct", "left"]
    cells = [line.replace("━", "").split() for line in lines[1:5]]
    assert cells == [
        ["grpo+none_s2", "running", "2/10", "30.0%", "0:00:09"],
        ["maxrl+none_s1", "failed", "1/10", "50.0%"],
        ["grpo+none_s1", "done", "10/10", "20.0%"],
        ["maxrl+none_s2", "waiting", "0/10", "-"],
    ]
    assert lines[-1] == "1 running, 1 failed, 1 done, 1 waiting; 13 of 40 steps"


def test_a_small_terminal_shows_what_matters_most(ledger):
    console = terminal(height=10, color_system=None)
    lines = drawn(TableView(console, ledger), console)
    assert [line.split()[0] for line in lines[1:4]] == [
        "grpo+none_s2",
        "maxrl+none_s1",
        "grpo+none_s1",
    ]
    assert "… and 1 more" in lines


def test_a_long_name_leaves_room_for_the_figures(tmp_path, leave_campaign):
    label = "a" * 40 + "b" * 36
    directory = leave_campaign(tmp_path / "c", {(label, 123): ("running", [0.1, 0.3])})
    with contextlib.closing(Ledger(directory, read_manifest(directory))) as ledger:
        console = Console(file=io.StringIO(), width=80, height=40)
        lines = drawn(TableView(console, ledger), console)
    assert lines[0].split() == ["run", "state", "step", "correct", "left"]
    name, *figures = lines[1].replace("━", "").split()
    assert figures == ["running", "2/10", "30.0%", "0:00:09"]
    assert name.startswith("aaa")
    assert name.endswith("bb_s123")
    assert "…" in name


def test_on_a_terminal_what_ended_badly_stays_above_the_table(ledger):
    console = terminal(height=40)
    with view_for(console, ledger) as view:
        assert isinstance(view, TableView)
        view.refresh()
        view.changed(ledger["maxrl+none_s1"])
    said = console.file.getvalue()
    assert "maxrl+none_s1: failed: its loss is not finite" in said


def test_elsewhere_a_line_an_event(ledger):
    console = Console(file=io.StringIO(), width=40)
    with view_for(console, ledger) as view:
        assert isinstance(view, PlainView)
        view.changed(ledger.change("grpo+none_s2", pid=7))
        view.changed(ledger["maxrl+none_s1"])
        view.refresh()
    assert console.file.getvalue().splitlines() == [
        "grpo+none_s2: started, process 7",
        "[2/4] maxrl+none_s1: failed: its loss is not finite",
    ]


def test_a_closed_output_costs_the_display_only():
    program = (
        "import sys; from retrain_campaign.console import LastingConsole\n"
        "console = LastingConsole()\n"
        "sys.stdin.read()\n"
        "console.print('one'); console.print('two'); print('alive', file=sys.stderr)"
    )
    told = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **told) as process:
        process.stdout.close()  # before it is told to print
        process.stdin.close()
        assert process.stderr.read() == b"alive\n"
    assert process.returncode == 0


def entry(**values):
    return RunEntry(
        name="a_s1", condition="a", seed=1, command=[], run_dir="r", max_steps=9, **values
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"pid": 7}, "a_s1: started, process 7"),
        ({"pid": 7, "attempts": 2, "gpus": ["3"]}, "a_s1: started, attempt 2, process 7, GPU 3"),
        ({"job": "12"}, "a_s1: started, job 12"),
    ],
)
def test_how_a_start_is_told(values, line):
    assert starting_line(entry(status="running", **values)) == line


def test_how_an_end_is_told():
    metrics = {"step": 8, "running_correct_rate": 0.5, "eval_accuracy": 0.25}
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:05+00:00"}
    done = entry(status="done", final_metrics=metrics, **times)
    assert ending_line(done) == "a_s1: done, 9 steps, correct 50.0%, held-out 25.0%, in 0:01:05"
    assert ending_line(entry(status="done")) == "a_s1: done"
    assert ending_line(entry(status="failed", reason="why")) == "a_s1: failed: why"


@pytest.mark.parametrize("live", [True, False])
def test_failures_are_a_table_or_lines(live):
    console = Console(file=io.StringIO(), force_terminal=live, width=80)
    print_failures(console, [])
    assert console.file.getvalue() == ""
    print_failures(console, [entry(status="failed", attempts=2, reason="exit code 1: [oops]")])
    said = console.file.getvalue()
    assert "exit code 1: [oops]" in said
    assert ("Not finished" in said) is live


def test_the_mean_time_of_a_step_follows_the_newest():
    progress = Progress()
    for step, seconds in ((0, 1.0), (0, 9.0), (1, 2.0)):
        progress.take([{"step": step, "running_correct_rate": None, "step_time_s": seconds}])
    assert (progress.steps, progress.rate) == (2, None)
    assert progress.step_s == pytest.approx(1.2)
