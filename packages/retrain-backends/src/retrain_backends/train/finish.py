"""The end of a run: the last adapter, the learning curve, the summary."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from retrain_backends.dotted_names import load_object
from retrain_backends.errors import (
    ConfigError,
    InterruptedRunError,
    RunError,
    StoppedRunError,
    TerminatedRunError,
    describe,
)
from retrain_backends.tracking.console import print_summary
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.tracking.summary import RunSummary, learning_curve
from retrain_backends.train.step.interrupt import Terminated, finish_first
from retrain_backends.train.storage.checkpoint import CURVE_FILE, Checkpoints
from retrain_backends.train.storage.run_directory import RunDirectory
from retrain_backends.train.storage.train_state import TrainState


@dataclass(frozen=True)
class Ending:
    """How the steps of a run ended.

    `state` follows the last full step, and `score` is its evaluation. `finished`: all steps and the
    last evaluation are done. `stopped` is why the backend ended the run, `lost` what has happened
    to its directory; `terminated` distinguishes SIGTERM from Ctrl-C.
    """

    state: TrainState
    score: float | None = None
    finished: bool = False
    stopped: str = ""
    lost: str = ""
    terminated: bool = False


@dataclass(frozen=True)
class RunIdentity:
    """Identifies a run: its directory, learning rule, seed, model, and the tokenizer's files."""

    directory: Path
    condition: str
    seed: int
    model: str
    tokenizer: Path


def save_adapter(checkpoints: Checkpoints, ending: Ending, tokenizer: Path) -> str | None:
    """Save the adapter at the end of a run, and return its path.

    A finished run has a checkpoint, from which it can be extended, and `final`. A run that ended
    early has a checkpoint of its last full step, or nothing (None) if it completed no step.
    """
    with finish_first():
        trained = ending.state.steps_done
        saved = checkpoints.save(ending.state, ending.score) if trained else None
        return checkpoints.save_final(tokenizer) if ending.finished else saved


def ended_early(run_dir: Path, ending: Ending, adapter: str | None) -> InterruptedRunError:
    """The error for an unfinished run: what ended it, what is saved, and how to resume it."""
    steps = f"after {ending.state.steps_done} steps"
    saved = f"adapter saved in {adapter}" if adapter else "there is nothing to save yet"
    hint = f"{saved}; resume with `retrain --resume {run_dir}`"
    if ending.stopped:
        return StoppedRunError(f"stopped {steps}: {ending.stopped}; {hint}")
    if ending.terminated:
        return TerminatedRunError(f"terminated {steps}; {hint}")
    return InterruptedRunError(f"interrupted {steps}; {hint}")


def ended_before_training(interrupt: KeyboardInterrupt) -> InterruptedRunError:
    """The error for a run that Ctrl-C or SIGTERM has ended before its first step."""
    if isinstance(interrupt, Terminated):
        return TerminatedRunError("terminated before the first step")
    return InterruptedRunError("interrupted before the first step")


def save_elsewhere(run_dir: RunDirectory, checkpoints: Checkpoints, ending: Ending) -> RunError:
    """Save a run whose directory or logs another program has changed; return its error.

    A directory that is gone is made again, with the logs as far as they can still be read.
    """
    what = f"{run_dir.directory}: {ending.lost} while the run was training"
    if not ending.state.steps_done:
        return RunError(f"{what}; there was nothing to save yet")
    # A border: it may not be possible to make the directory again.
    try:
        with finish_first():
            directory = checkpoints.save_elsewhere(run_dir.config_text, ending.state, ending.score)
    except (ConfigError, OSError) as error:
        return RunError(f"{what}, and it cannot be saved: {describe(error)}")
    return RunError(
        f"{what}; the state after step {ending.state.steps_done} is saved in {directory}; resume "
        f"with `retrain --resume {directory}`"
    )


def finish(
    identity: RunIdentity, state: TrainState, adapter: str | None, console: Console, *, draw: bool
) -> RunSummary:
    """Print and return the run's summary, and draw its learning curve, from its logs.

    Args:
      identity: which run it is.
      state: after its last step.
      adapter: where its adapter is.
      console: to print on.
      draw: whether to draw the learning curve.
    """
    run_dir = identity.directory
    rows, evaluations = read_metrics(run_dir), read_evaluations(run_dir)
    curve = learning_curve(rows, evaluations)
    summary = RunSummary(
        run_dir=run_dir,
        adapter=adapter,
        condition=identity.condition,
        seed=identity.seed,
        steps=state.steps_done,
        window=curve.window,
        first_rate=float(curve.rates[: curve.window].mean()) if curve.rates.size else None,
        last_rate=float(curve.means[-1]) if curve.rates.size else None,
        tokens_sampled=sum(row["tokens_sampled"] for row in rows),
        time_s=sum(row["step_time_s"] for row in rows),
        held_out=curve.held_out,
    )
    if draw and curve.rates.size:
        # By name, so that matplotlib is imported only when there is something to draw.
        save = load_object("retrain_backends.tracking.curve:save_learning_curve")
        title = f"{summary.condition}, seed {summary.seed}, {identity.model}"
        save(curve, title, run_dir / CURVE_FILE)
    print_summary(console, summary, curve)
    return summary
