import io
import subprocess
import sys
from subprocess import PIPE

import pytest
from rich.console import Console

from retrain_campaign.display.lines import ending_line, print_failures, starting_line
from retrain_campaign.storage.manifest import RunEntry


def test_a_closed_pipe_does_not_end_the_program():
    program = (
        "import sys; from retrain_campaign.display.lines import PipeSafeConsole\n"
        "console = PipeSafeConsole()\n"
        "sys.stdin.read()\n"
        "console.print('one'); console.print('two'); print('alive', file=sys.stderr)"
    )
    pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        process.stdout.close()  # before it prints
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
def test_the_line_of_a_start(values, line):
    assert starting_line(entry(status="running", **values)) == line


def test_the_line_of_an_end():
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
