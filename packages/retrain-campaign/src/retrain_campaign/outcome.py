"""What a run has left on the disk: how far it is, whether it is whole, what it said last."""

import signal
from pathlib import Path

from pydantic import JsonValue

from retrain_backends.tracking.journal import EVALUATIONS_FILE, METRICS_FILE
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

# What the manifest keeps of the last row of metrics.jsonl.
_KEPT = ("step", "correct_rate", "running_correct_rate", "mean_reward", "loss")


def final_metrics(run_dir: Path) -> dict[str, JsonValue] | None:
    """The figures of the last step, and of the last evaluation if there was one."""
    rows = last_rows(run_dir / METRICS_FILE, 1)
    if not rows:
        return None
    kept = {key: rows[-1].get(key) for key in _KEPT}
    for evaluation in last_rows(run_dir / EVALUATIONS_FILE, 1):
        kept["eval_accuracy"] = evaluation.get("accuracy")
    return kept


def is_whole(run_dir: Path, max_steps: int) -> bool:
    """Whether a run has done all: its steps, its last adapter, and its learning curve."""
    state = _state(run_dir)
    if state is None or state.steps_done < max_steps:
        return False
    return adapter_of(run_dir, run_dir) is not None and (run_dir / CURVE_FILE).is_file()


def adapter_of(run_dir: Path, campaign: Path) -> str | None:
    """Where the adapter of a finished run is: a service's path, or relative to the campaign."""
    state = _state(run_dir)
    if state and state.final:
        return state.final
    final = run_dir / "final"
    return final.relative_to(campaign).as_posix() if final.is_dir() else None


def why_it_died(run_dir: Path, exit_code: int | None) -> str:
    """How a process ended, and the last lines that it said."""
    said = last_lines(run_dir / OUTPUT_FILE)
    return f"{_ending(exit_code)}: {said}" if said else _ending(exit_code)


def last_lines(path: Path) -> str:
    """The last lines of a text file that are not empty, each cut when it is long."""
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
    except DamagedError:  # a border: a run that was killed may have left anything, or nothing
        return None


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""
