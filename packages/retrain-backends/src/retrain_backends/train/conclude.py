"""The end of a run: the last adapter, the learning curve, the summary."""

from retrain_backends.plugins import load_object
from retrain_backends.tracking.console import print_summary
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.tracking.summary import RunSummary, learning_curve
from retrain_backends.train.build import Run
from retrain_backends.train.control import TrainState
from retrain_backends.train.interrupt import finish_first

CURVE_FILE = "learning_curve.png"


def save_adapter(run: Run, state: TrainState, finished: bool) -> str | None:
    """Save the adapter of a run that ends here, and say where it is.

    After the last step there is a checkpoint, so that the run can be made longer, and `final`;
    after Ctrl-C a checkpoint of the last full step, or nothing (None) when no step was done.
    """
    with finish_first():
        saved = run.checkpoints.save(state) if state.steps_done else None
        return run.checkpoints.save_final() if finished else saved


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
