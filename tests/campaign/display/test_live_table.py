import contextlib
import io

import pytest
from rich.console import Console

from retrain_campaign.display.lines import LineDisplay
from retrain_campaign.display.live_table import LiveTable, RunProgress, display_for
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore

RUNS = {
    ("grpo+none", 1): ("done", [0.2] * 10),
    ("grpo+none", 2): ("running", [0.1, 0.3]),
    ("maxrl+none", 1): ("failed", [0.5]),
    ("maxrl+none", 2): ("planned", []),
}


@pytest.fixture
def store(tmp_path, leave_campaign):
    directory = leave_campaign(tmp_path / "c", RUNS)
    with contextlib.closing(ManifestStore(directory, read_manifest(directory))) as store:
        yield store


def terminal(**options):
    return Console(file=io.StringIO(), force_terminal=True, width=100, **options)


def drawn(display, console):
    with console.capture() as capture:
        console.print(display.render())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_row_a_run_and_the_totals(store):
    console = terminal(height=40, color_system=None)
    lines = drawn(LiveTable(console, store), console)
    assert lines[0].split() == ["run", "state", "step", "correct", "left"]
    cells = [line.replace("━", "").split() for line in lines[1:5]]
    assert cells == [
        ["grpo+none_s2", "running", "2/10", "30.0%", "0:00:09"],
        ["maxrl+none_s1", "failed", "1/10", "50.0%"],
        ["grpo+none_s1", "done", "10/10", "20.0%"],
        ["maxrl+none_s2", "waiting", "0/10", "-"],
    ]
    assert lines[-1] == "1 running, 1 failed, 1 done, 1 waiting; 13 of 40 steps"


def test_a_small_terminal_shows_what_matters_most(store):
    console = terminal(height=10, color_system=None)
    lines = drawn(LiveTable(console, store), console)
    assert [line.split()[0] for line in lines[1:4]] == [
        "grpo+none_s2",
        "maxrl+none_s1",
        "grpo+none_s1",
    ]
    assert "… and 1 more" in lines


def test_a_long_name_leaves_room_for_the_figures(tmp_path, leave_campaign):
    label = "a" * 40 + "b" * 36
    directory = leave_campaign(tmp_path / "c", {(label, 123): ("running", [0.1, 0.3])})
    with contextlib.closing(ManifestStore(directory, read_manifest(directory))) as store:
        console = Console(file=io.StringIO(), width=80, height=40)
        lines = drawn(LiveTable(console, store), console)
    assert lines[0].split() == ["run", "state", "step", "correct", "left"]
    name, *figures = lines[1].replace("━", "").split()
    assert figures == ["running", "2/10", "30.0%", "0:00:09"]
    assert name.startswith("aaa")
    assert name.endswith("bb_s123")
    assert "…" in name


def test_on_a_terminal_what_ended_badly_stays_above_the_table(store):
    console = terminal(height=40)
    with display_for(console, store) as display:
        assert isinstance(display, LiveTable)
        display.refresh()
        display.changed(store["maxrl+none_s1"])
    said = console.file.getvalue()
    assert "maxrl+none_s1: failed: its loss is not finite" in said


def test_elsewhere_a_line_an_event(store):
    console = Console(file=io.StringIO(), width=40)
    with display_for(console, store) as display:
        assert isinstance(display, LineDisplay)
        display.changed(store.change("grpo+none_s2", pid=7))
        display.changed(store["maxrl+none_s1"])
        display.refresh()
    assert console.file.getvalue().splitlines() == [
        "grpo+none_s2: started, process 7",
        "[2/4] maxrl+none_s1: failed: its loss is not finite",
    ]


def test_the_mean_time_of_a_step_follows_the_newest():
    progress = RunProgress()
    for step, seconds in ((0, 1.0), (0, 9.0), (1, 2.0)):
        progress.update([{"step": step, "running_correct_rate": None, "step_time_s": seconds}])
    assert (progress.steps, progress.rate) == (2, None)
    assert progress.step_s == pytest.approx(1.2)
