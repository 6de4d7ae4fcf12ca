"""The results of a run on the disk: last figures, completeness, adapter, last output lines."""

import signal
from pathlib import Path

from pydantic import JsonValue

from retrain_backends.tracking.journal import EVALUATIONS_FILE, METRICS_FILE
from retrain_backends.tracking.log_check import damage_of
from retrain_backends.tracking.tail import last_rows
from retrain_backends.train.storage.checkpoint import CURVE_FILE
from retrain_backends.train.storage.state_file import (
    STATE_FILE,
    DamagedError,
    SavedState,
    read_state,
)

OUTPUT_FILE = "output.log"
_TAIL_BYTES = 64 * 1024
_LAST_LINES = 5
_LONGEST_LINE = 300

# Figures of the last row of metrics.jsonl that go into the manifest.
_FIGURES = ("step", "correct_rate", "running_correct_rate", "mean_reward", "loss")


def final_metrics(run_dir: Path) -> dict[str, JsonValue] | None:
    """Figures of the last step, and the accuracy of the last evaluation if there was one."""
    rows = last_rows(run_dir / METRICS_FILE, 1)
    if not rows:
        return None
    figures = {key: rows[-1].get(key) for key in _FIGURES}
    for evaluation in last_rows(run_dir / EVALUATIONS_FILE, 1):
        figures["eval_accuracy"] = evaluation.get("accuracy")
    return figures


def is_complete(run_dir: Path, max_steps: int) -> bool:
    """Whether a run has written everything: all steps, final adapter, curve if asked for."""
    state = _state(run_dir)
    if state is None or state.steps_done < max_steps:
        return False
    drawn = state.configuration.get("logging.learning_curve") is False or (
        (run_dir / CURVE_FILE).is_file()
    )
    return drawn and adapter_of(run_dir, run_dir) is not None


def damaged_logs(run_dir: Path) -> str:
    """How the logs that are compared differ from what the run wrote; empty if they do not.

    Without a readable state file they cannot be checked.
    """
    state = _state(run_dir)
    if state is None:
        return ""
    names = (METRICS_FILE, EVALUATIONS_FILE)
    found = (damage_of(run_dir, name, state.logs.get(name, ())) for name in names)
    return "; ".join(filter(None, found))


def adapter_of(run_dir: Path, campaign: Path) -> str | None:
    """Path of a finished run's adapter: a service's, or relative to the campaign's directory."""
    state = _state(run_dir)
    if state and state.final:
        return state.final
    final = run_dir / "final"
    return final.relative_to(campaign).as_posix() if final.is_dir() else None


def failure_reason(run_dir: Path, exit_code: int | None) -> str:
    """How a process ended, with the last lines of its output."""
    output = last_lines(run_dir / OUTPUT_FILE)
    return f"{_ending(exit_code)}: {output}" if output else _ending(exit_code)


def last_lines(path: Path) -> str:
    """The last non-empty lines of a text file, each truncated if it is long."""
    lines = _tail(path).decode("utf-8", "replace").splitlines()
    shown = [line.rstrip()[:_LONGEST_LINE] for line in lines if line.strip()]
    return "\n".join(shown[-_LAST_LINES:])


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "its process is gone"
    if exit_code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-exit_code, f'signal {-exit_code}')}"
    return f"exit code {exit_code}"


def _state(run_dir: Path) -> SavedState | None:
    try:
        return read_state(run_dir / STATE_FILE)
    except DamagedError:  # a border: a killed run may leave a damaged file
        return None


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""
