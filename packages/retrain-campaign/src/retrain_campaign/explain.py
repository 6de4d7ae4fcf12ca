"""What a campaign would do, in words: nothing is started and nothing is written."""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, TypeVar

from retrain_backends.config import Origin, label_of
from retrain_backends.errors import ConfigError
from retrain_backends.train.checks.explain import Chapter, Explanation
from retrain_campaign.capacity import Capacity, capacity_of, this_machine
from retrain_campaign.directory import new_directory, where_its_runs_work
from retrain_campaign.disk import Room, room_of, size
from retrain_campaign.forecast import Forecast, Load, forecast
from retrain_campaign.pilot import PilotRun, measure_pilot
from retrain_campaign.plan import Campaign, PlannedRun, plan_runs
from retrain_campaign.preflight import check_plan, idle_conditions
from retrain_campaign.squeeze import settings_after_training

T = TypeVar("T")
Rows: TypeAlias = Iterator[tuple[str, str]]

_SHOWN = 8  # seeds, or overrides, that are named one by one
_PILOT_STEPS = 20


def explain_campaign(
    campaign: Campaign, pilot_dir: Path | None = None, directory: Path | None = None
) -> Explanation:
    """Say what a campaign would do, and how long all of it takes.

    Args:
      campaign: what to explain.
      pilot_dir: earlier runs, below this directory, to judge by; None for the formulas only.
      directory: of the campaign, if it is gone on with; None for a new one.

    Raises:
      ConfigError: no run there has finished a step.
    """
    pilot = measure_pilot(pilot_dir) if pilot_dir else ()
    title = f"Time, judged by {pilot_dir}" if pilot else "Time"
    if directory is None:
        return _explained(campaign, pilot, title, None)
    with where_its_runs_work(directory) as seen:
        return _explained(campaign, pilot, title, seen)


def _explained(
    campaign: Campaign, pilot: Sequence[PilotRun], title: str, directory: Path | None
) -> Explanation:
    plan = plan_runs(campaign)
    problems: list[str] = []
    capacity = _asked(problems, lambda: capacity_of(campaign, this_machine(os.environ), len(plan)))
    _asked(problems, lambda: check_plan(plan))
    if campaign.squeeze and directory is None:
        origin = Origin(str(campaign.path))
        _asked(problems, lambda: settings_after_training(campaign.config, origin))
    directory = directory or _asked(problems, lambda: new_directory(campaign, datetime.now()))
    workers = capacity.workers if capacity else 1
    time = _time_rows(campaign, plan, pilot, workers)
    chapters = (
        Chapter("The campaign", tuple(_campaign_rows(campaign, plan, directory))),
        Chapter("The runs", tuple(_run_rows(campaign, plan))),
        Chapter("Workers", tuple(_worker_rows(campaign, capacity))),
        Chapter(
            "Room on the disk", tuple(_disk_rows([room_of(run.config, pilot) for run in plan]))
        ),
        Chapter(title, tuple(time)),
    )
    return Explanation(chapters, (), tuple(_notes(plan, pilot)), tuple(dict.fromkeys(problems)))


def _asked(problems: list[str], question: Callable[[], T]) -> T | None:
    """The answer; None, and its problems noted, when there is none."""
    # A border: what is asked may need a package or a file that is not there.
    try:
        return question()
    except ConfigError as error:
        problems += error.problems
    return None


def _loads(plan: Sequence[PlannedRun]) -> list[Load]:
    return [
        Load(run.label, steps, len(run.config.eval.due_after(steps)))
        for run in plan
        for steps in (run.config.training.max_steps,)
    ]


def _campaign_rows(campaign: Campaign, plan: Sequence[PlannedRun], directory: Path | None) -> Rows:
    conditions, seeds = len(campaign.conditions), len(campaign.seeds)
    yield "file", str(campaign.path)
    yield "runs", f"{len(plan):,}: {_count(conditions, 'condition')} x {_count(seeds, 'seed')}"
    steps = sum(run.config.training.max_steps for run in plan)
    yield "steps", f"{steps:,} in all"
    yield "seeds", _listed([str(seed) for seed in campaign.seeds])
    yield "order", "seed by seed, so that conditions can be compared early"
    if directory:
        yield "directory", f"{directory}, with the runs in runs/"
    if project := campaign.base.logging.wandb_project:
        yield "wandb", f"project {project}; a group for each condition"
    if campaign.squeeze:
        yield "squeeze", "the adapter of the first run that is done is analysed beside the others"


def _run_rows(campaign: Campaign, plan: Sequence[PlannedRun]) -> Rows:
    for condition in campaign.conditions:
        runs = [run for run in plan if run.condition == condition]
        steps = runs[0].config.training.max_steps
        tables = condition.overrides.items()
        changed = [f"{name}.{key}" for name, table in tables for key in table]
        rule = f"{condition.advantage_mode} and {condition.transform_mode}"
        own = f", with its own {_listed(changed)}" if changed else ""
        yield runs[0].label, f"{rule}{own}; {steps:,} steps each"
        yield "", _listed([run.name for run in runs], most=4)


def _worker_rows(campaign: Campaign, capacity: Capacity | None) -> Rows:
    settings = campaign.settings
    yield "executor", settings.executor
    if capacity is None:
        yield "at once", "not known here; see the problems below"
        return
    if settings.parallel:
        yield "at once", f"{_count(capacity.workers, 'run')}"
    else:
        yield "at once", "1 run; parallel = true starts more"
    if capacity.gpus:
        each = _count(capacity.gpus_each, "GPU")
        yield "GPUs", f"{each} each, of {', '.join(capacity.gpus)}"
    if campaign.base.backend.backend == "local":
        yield "CPU", f"{_count(capacity.threads, 'thread')} each"
    if settings.stagger_seconds:
        yield "starts", f"at least {settings.stagger_seconds:g} s apart"
    yield "retries", f"{settings.retries}, each from the last checkpoint"


def _disk_rows(rooms: Sequence[Room]) -> Rows:
    logs = sum(room.logs for room in rooms)
    measured = "as in the earlier runs" if rooms[0].logs_measured else "at most"
    yield "logs", f"{size(logs)} {measured}, without the questions of evaluations"
    if not any(room.checkpoints for room in rooms):
        yield "adapters", "kept by the service, unless they are downloaded"
        return
    totals = [room.total for room in rooms if room.total is not None]
    if len(totals) < len(rooms):
        yield (
            "checkpoints",
            "4 adapters each: its weights, and for the optimiser weights and moments",
        )
        yield "adapter", "4 bytes x rank x (inputs + outputs of every projection that it changes)"
        yield "", "not counted: the model's config.json is not on this machine"
        return
    largest = max(rooms, key=lambda room: room.total or 0)
    assert largest.adapter is not None
    yield "adapter", size(largest.adapter)
    kept = _count(largest.checkpoints, "checkpoint")
    yield (
        "checkpoints",
        f"{size(4 * largest.adapter)} each; {kept} of a run at most, one half written",
    )
    yield "all runs", size(sum(totals))


def _forecast_rows(found: Forecast, workers: int) -> Rows:
    measured = f"{_count(found.steps_measured, 'step')} of {_count(found.runs_measured, 'run')}"
    yield "measured", measured
    yield "a step", f"{span(found.step_s)} (median)"
    if found.overhead_s is not None:
        yield "starting, ending", f"{span(found.overhead_s)} a run (median)"
    wall, tokens = found.wall_s, found.tokens
    low, high = span(wall.low), span(wall.high)
    within = f"{_count(workers, 'run')} at once"
    yield "wall time", f"{span(wall.median)} with {within}; 90 %: {low} to {high}"
    yield "tokens", f"{tokens.median:,.0f} sampled; 90 %: {tokens.low:,.0f} to {tokens.high:,.0f}"
    if found.overhead_s is None:
        yield "not in it", "starting and ending each run, which only a campaign measures"
    if not found.evaluations_known:
        yield "not in it", "evaluations, which the earlier runs did not have"


def _time_rows(
    campaign: Campaign, plan: Sequence[PlannedRun], pilot: Sequence[PilotRun], workers: int
) -> Rows:
    if not pilot:
        return _formula_rows(campaign, plan, workers)
    found = forecast(pilot, _loads(plan), workers, campaign.settings.stagger_seconds)
    return _forecast_rows(found, workers)


def _formula_rows(campaign: Campaign, plan: Sequence[PlannedRun], workers: int) -> Rows:
    training = campaign.base.training
    completions = training.batch_size * training.group_size
    steps = sum(run.config.training.max_steps for run in plan)
    evaluations = sum(len(run.config.eval.due_after(run.config.training.max_steps)) for run in plan)
    yield "a run", "start + steps x seconds a step + evaluations x seconds an evaluation"
    asked = f" + {evaluations:,} x an evaluation" if evaluations else ""
    share = f", divided by {workers:,} at once" if workers > 1 else ""
    yield "wall time", f"about {len(plan):,} x start + {steps:,} x a step{asked}{share}"
    yield "tokens", f"{steps * completions * training.max_tokens:,} sampled at most"
    own = [
        f"{training['max_steps']} of `{label_of(condition)}`"
        for condition in campaign.conditions
        if "max_steps" in (training := condition.overrides.get("training", {}))
    ]
    but = f" (but {_listed(own)}, by its own training.max_steps)" if own else ""
    yield "a pilot", f"measures what is not known: {_PILOT_STEPS} steps under one seed{but},"
    pilot = f"--campaign-max-steps {_PILOT_STEPS} --campaign-seeds {campaign.seeds[0]}"
    yield "", f"retrain {campaign.path} {pilot} --campaign-directory logs/pilot"
    yield "", f"retrain explain {campaign.path} --from logs/pilot"


def _notes(plan: Sequence[PlannedRun], pilot: Sequence[PilotRun]) -> Iterator[str]:
    yield from (f"{note}." for note in idle_conditions(plan))
    if not pilot:
        return
    unmeasured = sorted({run.label for run in plan} - {run.label for run in pilot})
    if unmeasured and len({run.label for run in plan}) > 1:
        yield f"Judged by all earlier runs, having none of their own: {_listed(unmeasured)}."
    yield (
        "The forecast holds for as many runs at once as there were in the earlier ones, and for "
        "completions that get no longer."
    )


def span(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.3g} min"
    return (
        f"{seconds / 3600:,.1f} hours" if seconds < 100 * 3600 else f"{seconds / 86400:,.1f} days"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _listed(names: Sequence[str], most: int = _SHOWN) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
