"""The end of a run: the last adapter, the learning curve, the summary."""

from dataclasses import dataclass

from retrain_backends.errors import InterruptedRunError, StoppedRunError
from retrain_backends.plugins import load_object
from retrain_backends.tracking.console import print_summary
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.tracking.summary import RunSummary, learning_curve
from retrain_backends.train.build import Run
from retrain_backends.train.step.interrupt import finish_first
from retrain_backends.train.storage.checkpoint import CURVE_FILE
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import Usage


@dataclass(frozen=True)
class Ending:
    """How the steps of a run ended.

    `state` is that after the last full step, `score` how it was evaluated. `finished`: all has been
    done, the last evaluation too. `stopped` is why the backend had the run end before; empty after
    Ctrl-C.
    """

    state: TrainState
    score: float | None = None
    finished: bool = False
    stopped: str = ""


def reason_to_stop(run: Run, state: TrainState, usage: Usage) -> str:
    """Why the backend has the run end here; empty when it has not, or when nothing is left to do.

    The last evaluation is something to do, and so costs something.
    """
    done = state.steps_done == run.config.training.max_steps and not run.config.eval.every
    return "" if done else usage.stop


def save_adapter(run: Run, ending: Ending) -> str | None:
    """Save the adapter of a run that ends here, and say where it is.

    After the last step there is a checkpoint, so that the run can be made longer, and `final`; of
    a run that ended before, a checkpoint of the last full step, or nothing (None) without any.
    """
    with finish_first():
        begun = ending.state.steps_done
        saved = run.checkpoints.save(ending.state, ending.score) if begun else None
        return run.checkpoints.save_final() if ending.finished else saved


def ended_early(run: Run, ending: Ending, adapter: str | None) -> InterruptedRunError:
    """The error for a run that is not finished: what ended it, what is saved, how it goes on."""
    steps = f"after {ending.state.steps_done} steps"
    kept = f"adapter saved in {adapter}" if adapter else "there is nothing to save yet"
    rest = f"{kept}; `retrain --resume {run.directory}` goes on"
    if ending.stopped:
        return StoppedRunError(f"stopped {steps}: {ending.stopped}; {rest}")
    return InterruptedRunError(f"interrupted {steps}; {rest}")


def conclude(run: Run, state: TrainState, adapter: str | None) -> RunSummary:
    """Sum the run up from its own logs: draw the learning curve, print the summary, return it."""
    rows, evaluations = read_metrics(run.directory), read_evaluations(run.directory)
    curve = learning_curve(rows, evaluations)
    summary = RunSummary(
        run_dir=run.directory,
        adapter=adapter,
        condition=run.condition,
        seed=run.config.training.seed,
        steps=state.steps_done,
        window=curve.window,
        first_rate=float(curve.rates[: curve.window].mean()) if curve.rates.size else None,
        last_rate=float(curve.means[-1]) if curve.rates.size else None,
        tokens_sampled=sum(row["tokens_sampled"] for row in rows),
        time_s=sum(row["step_time_s"] for row in rows),
        held_out=curve.held_out,
    )
    if curve.rates.size:
        # By name, so that matplotlib is imported by runs that have something to draw.
        draw = load_object("retrain_backends.tracking.curve:save_learning_curve")
        title = f"{summary.condition}, seed {summary.seed}, {run.config.model.model}"
        draw(curve, title, run.directory / CURVE_FILE)
    print_summary(run.console, summary, curve)
    return summary
