"""Checks of a campaign that are made before any run is started."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from retrain_backends.config import RunConfig
from retrain_backends.declared import declared_capabilities
from retrain_backends.errors import ConfigError, RetrainError
from retrain_backends.plugins import KINDS, resolve
from retrain_backends.tracking.trackers import check_trackers
from retrain_backends.train.refusals import refuse_clashes, refuse_unavailable
from retrain_backends.train.step.learning_rule import build_rule
from retrain_backends.train.step.sepa import idle_sepa
from retrain_campaign.plan.campaign import PlannedRun
from retrain_campaign.plan.disk_space import disk_space_of, format_bytes


def check_plan(plan: Iterable[PlannedRun]) -> None:
    """Check each condition once: import its plugins and build its learning rule.

    The module of the local backend is not imported, since it would load PyTorch into this process.

    Raises:
      ConfigError: holds a line for every mistake; the line names the conditions that have it,
        unless all have.
    """
    configs = _configs_by_label(plan)
    labels_of: dict[str, list[str]] = {}
    for label, config in configs.items():
        for problem in _problems(config):
            labels_of.setdefault(problem, []).append(label)
    if labels_of:
        raise ConfigError(
            *(
                problem if len(labels) == len(configs) else f"{', '.join(labels)}: {problem}"
                for problem, labels in labels_of.items()
            )
        )


def idle_conditions(plan: Iterable[PlannedRun]) -> Iterator[str]:
    """A line for each condition whose SEPA schedule has no effect, with the reason."""
    for label, config in _configs_by_label(plan).items():
        try:
            idle = idle_sepa(config.algorithm, config.sepa, config.training.max_steps)
        except RetrainError:  # `check_plan` reports a rule that cannot be built
            continue
        if idle:
            yield f"{label}: {idle}"


def check_disk_space(plan: Sequence[PlannedRun], directory: Path, free: int) -> None:
    """Refuse a campaign whose checkpoints do not fit on the disk; logs are not counted.

    Args:
      plan: the runs.
      directory: of the campaign, for the message.
      free: free bytes there.

    Raises:
      ConfigError: there is not enough space.
    """
    counts = Counter(run.label for run in plan)
    spaces = {label: disk_space_of(config) for label, config in _configs_by_label(plan).items()}
    needed = sum(
        counts[label] * ((space.total or space.logs) - space.logs)
        for label, space in spaces.items()
    )
    if needed > free:
        raise ConfigError(
            f"{directory}: {format_bytes(free)} are free, but the checkpoints of {len(plan)} runs "
            f"need {format_bytes(needed)}; free some space, set campaign.directory to another "
            "disk, or keep fewer checkpoints with training.keep_last"
        )


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of a directory, which need not exist."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _configs_by_label(plan: Iterable[PlannedRun]) -> dict[str, RunConfig]:
    """The configuration of one run of each condition."""
    return {run.label: run.config for run in plan}


def _problems(config: RunConfig) -> Iterator[str]:
    checks: list[Callable[[], object]] = [
        lambda: refuse_unavailable(config),
        lambda: refuse_clashes(config, declared_capabilities(config.backend.backend)),
        lambda: build_rule(config.algorithm, config.gtpo, config.hicra),
        lambda: check_trackers(config.logging),
        lambda: resolve("detector", config.planning.detector),
        lambda: _import_plugin("reward", config.reward.type),
        lambda: _import_plugin("source", config.data.source),
    ]
    for check in checks:
        # A border: the check may import the user's own code.
        try:
            check()
        except ConfigError as error:
            yield from error.problems
        except RetrainError as error:
            yield str(error)


def _import_plugin(kind: str, name: str) -> None:
    """Import a plugin of the user's; built-in parts need no check."""
    if name not in KINDS[kind].builtins:
        resolve(kind, name)
