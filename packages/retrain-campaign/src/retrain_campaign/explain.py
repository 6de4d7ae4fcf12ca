"""`retrain explain` for a campaign: its runs, workers, disk space and time, without starting it."""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, TypeVar

from retrain_backends.config import Origin, label_of
from retrain_backends.errors import ConfigError
from retrain_backends.train.checks.explain import Chapter, Explanation
from retrain_campaign.forecast.pilot import Pilot, mean_log_bytes, measure_pilot
from retrain_campaign.forecast.simulation import MACHINE_SHARE, Forecast, RunSize, forecast
from retrain_campaign.forecast.spread import PRIOR_SHARE
from retrain_campaign.plan.campaign import Campaign, PlannedRun, plan_runs
from retrain_campaign.plan.capacity import Capacity, capacity_of, this_machine
from retrain_campaign.plan.checks import check_plan, idle_conditions
from retrain_campaign.plan.disk_space import DiskSpace, disk_space_of, format_bytes
from retrain_campaign.squeeze import settings_after_training
from retrain_campaign.storage.find_directory import in_working_directory, new_directory

T = TypeVar("T")
Rows: TypeAlias = Iterator[tuple[str, str]]

_MOST_NAMES = 8  # seeds or settings in one row
_PILOT_STEPS = 20


def explain_campaign(
    campaign: Campaign, pilot_dir: Path | None = None, directory: Path | None = None
) -> Explanation:
    """Describe what a campaign would do, what it needs and how long it takes.

    Args:
      campaign: what to explain.
      pilot_dir: directory of earlier runs to estimate from; None for formulas only.
      directory: of the campaign, if it is resumed; None for a new one.

    Raises:
      ConfigError: no run in `pilot_dir` has finished a step.
    """
    pilot = measure_pilot(pilot_dir) if pilot_dir else None
    title = f"Time, estimated from {pilot_dir}" if pilot else "Time"
    if directory is None:
        return _explained(campaign, pilot, title, None)
    with in_working_directory(directory) as seen:
        return _explained(campaign, pilot, title, seen)


def _explained(
    campaign: Campaign, pilot: Pilot | None, title: str, directory: Path | None
) -> Explanation:
    plan = plan_runs(campaign)
    problems: list[str] = []
    capacity = _tried(problems, lambda: capacity_of(campaign, this_machine(os.environ), len(plan)))
    _tried(problems, lambda: check_plan(plan))
    if campaign.squeeze and directory is None:
        origin = Origin(str(campaign.path))
        _tried(problems, lambda: settings_after_training(campaign.config, origin, resumed=False))
    directory = directory or _tried(problems, lambda: new_directory(campaign, datetime.now()))
    workers = capacity.workers if capacity else 1
    log_bytes = mean_log_bytes(pilot)
    spaces = [disk_space_of(run.config, log_bytes) for run in plan]
    chapters = (
        Chapter("The campaign", tuple(_campaign_rows(campaign, plan, directory))),
        Chapter("The runs", tuple(_run_rows(campaign, plan))),
        Chapter("Workers", tuple(_worker_rows(campaign, capacity))),
        Chapter("Disk space", tuple(_disk_rows(spaces))),
        Chapter(title, tuple(_time_rows(campaign, plan, pilot, workers))),
    )
    return Explanation(chapters, (), tuple(_notes(plan, pilot)), tuple(dict.fromkeys(problems)))


def _tried(problems: list[str], function: Callable[[], T]) -> T | None:
    """The result of the function; None if it raises, and its problems are added to the list."""
    # A border: a package or a file may be missing.
    try:
        return function()
    except ConfigError as error:
        problems += error.problems
    return None


def _sizes(plan: Sequence[PlannedRun]) -> list[RunSize]:
    return [
        RunSize(run.label, steps, len(run.config.eval.due_after(steps)))
        for run in plan
        for steps in (run.config.training.max_steps,)
    ]


def _campaign_rows(campaign: Campaign, plan: Sequence[PlannedRun], directory: Path | None) -> Rows:
    conditions, seeds = len(campaign.conditions), len(campaign.seeds)
    yield "file", str(campaign.path)
    yield "runs", f"{len(plan):,}: {_count(conditions, 'condition')} x {_count(seeds, 'seed')}"
    steps = sum(run.config.training.max_steps for run in plan)
    yield "steps", f"{steps:,} in total"
    yield "seeds", _listed([str(seed) for seed in campaign.seeds])
    yield "order", "by seed, so that conditions can be compared early"
    if directory:
        yield "directory", f"{directory}, with the runs in runs/"
    if project := campaign.base.logging.wandb_project:
        yield "wandb", f"project {project}; a group for each condition"
    if campaign.squeeze:
        yield "squeeze", "the adapter of the first finished run is analysed while the others run"


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
        yield "at once", "unknown; see the problems below"
        return
    if settings.parallel:
        yield "at once", f"{_count(capacity.workers, 'run')}"
    else:
        yield "at once", "1 run; set parallel = true for more"
    if capacity.gpus:
        each = _count(capacity.gpus_each, "GPU")
        yield "GPUs", f"{each} each, of {', '.join(capacity.gpus)}"
    if campaign.base.backend.backend == "local":
        yield "CPU", f"{_count(capacity.threads, 'thread')} each"
    if settings.stagger_seconds:
        yield "starts", f"at least {settings.stagger_seconds:g} s apart"
    yield "retries", f"{settings.retries}, each from the last checkpoint"


def _disk_rows(spaces: Sequence[DiskSpace]) -> Rows:
    logs = sum(space.logs for space in spaces)
    measured = "as in the earlier runs" if spaces[0].logs_measured else "at most"
    yield "logs", f"{format_bytes(logs)} {measured}, without the questions of evaluations"
    if not any(space.checkpoints for space in spaces):
        yield "adapters", "stored by the service, unless they are downloaded"
        return
    totals = [space.total for space in spaces if space.total is not None]
    if len(totals) < len(spaces):
        yield (
            "checkpoints",
            "4 adapters each: the weights and, for the optimiser, weights and moments",
        )
        yield "adapter", "4 bytes x rank x (inputs + outputs of each projection that it adapts)"
        yield "", "not computed: the model's config.json is not on this machine"
        return
    largest = max(spaces, key=lambda space: space.total or 0)
    assert largest.adapter is not None
    yield "adapter", format_bytes(largest.adapter)
    kept = _count(largest.checkpoints, "checkpoint")
    yield (
        "checkpoints",
        f"{format_bytes(4 * largest.adapter)} each; {kept} per run at most, one being written",
    )
    yield "all runs", format_bytes(sum(totals))


def _forecast_rows(found: Forecast, workers: int) -> Rows:
    measured = f"{_count(found.steps_measured, 'step')} of {_count(found.runs_measured, 'run')}"
    yield "measured", measured
    yield "a step", f"{format_seconds(found.step_s)} (median)"
    if found.overhead_s is not None:
        yield "start and end", f"{format_seconds(found.overhead_s)} per run (median)"
    if found.own_s is not None:
        yield "campaign", f"{format_seconds(found.own_s)} before the first run and after the last"
    wall, tokens = found.wall_s, found.tokens
    low, high = format_seconds(wall.low), format_seconds(wall.high)
    at_once = f"{_count(workers, 'run')} at once"
    yield "wall time", f"{format_seconds(wall.median)} with {at_once}; 90 %: {low} to {high}"
    yield "tokens", f"{tokens.median:,.0f} sampled; 90 %: {tokens.low:,.0f} to {tokens.high:,.0f}"
    if found.overhead_s is None:
        yield "not included", "start and end of each run, which only campaigns measure"
    if found.own_s is None:
        yield "not included", "the campaign's own start and end, which no earlier one measured"
    if not found.evaluations_known:
        yield "not included", "evaluations, which the earlier runs did not have"


def _time_rows(
    campaign: Campaign, plan: Sequence[PlannedRun], pilot: Pilot | None, workers: int
) -> Rows:
    if not pilot:
        return _formula_rows(campaign, plan, workers)
    found = forecast(pilot, _sizes(plan), workers, campaign.settings.stagger_seconds)
    return _forecast_rows(found, workers)


def _formula_rows(campaign: Campaign, plan: Sequence[PlannedRun], workers: int) -> Rows:
    training = campaign.base.training
    completions = training.batch_size * training.group_size
    steps = sum(run.config.training.max_steps for run in plan)
    evaluations = sum(len(run.config.eval.due_after(run.config.training.max_steps)) for run in plan)
    yield "a run", "start + steps x seconds a step + evaluations x seconds an evaluation"
    evaluating = f" + {evaluations:,} x an evaluation" if evaluations else ""
    share = f", divided by {workers:,} at once" if workers > 1 else ""
    yield "wall time", f"about {len(plan):,} x start + {steps:,} x a step{evaluating}{share}"
    yield "tokens", f"{steps * completions * training.max_tokens:,} sampled at most"
    own = [
        f"{training['max_steps']} of `{label_of(condition)}`"
        for condition in campaign.conditions
        if "max_steps" in (training := condition.overrides.get("training", {}))
    ]
    but = f" (but {_listed(own)}, by its own training.max_steps)" if own else ""
    yield "a pilot", f"measures these times: {_PILOT_STEPS} steps with one seed{but},"
    pilot = f"--campaign-max-steps {_PILOT_STEPS} --campaign-seeds {campaign.seeds[0]}"
    yield "", f"retrain {campaign.path} {pilot} --campaign-directory logs/pilot"
    yield "", f"retrain explain {campaign.path} --from logs/pilot"


def _notes(plan: Sequence[PlannedRun], pilot: Pilot | None) -> Iterator[str]:
    yield from (f"{note}." for note in idle_conditions(plan))
    if not pilot:
        return
    unmeasured = sorted({run.label for run in plan} - {run.label for run in pilot.runs})
    if unmeasured and len({run.label for run in plan}) > 1:
        yield f"Estimated from all earlier runs, having none of their own: {_listed(unmeasured)}."
    yield (
        "The interval predicts the time of one campaign on a machine that is as fast as during "
        f"the earlier runs, within {MACHINE_SHARE:.0%}, with as many runs at once, completions of "
        "the same length and no failures. Where few runs were measured, it assumes that runs "
        f"differ by {PRIOR_SHARE:.0%}."
    )


def format_seconds(seconds: float) -> str:
    """A duration with three digits and a unit."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.3g} min"
    return (
        f"{seconds / 3600:,.1f} hours" if seconds < 100 * 3600 else f"{seconds / 86400:,.1f} days"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _listed(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
