"""Everything about a campaign that can be found wrong before anything starts."""

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
from retrain_campaign.disk import room_of, size
from retrain_campaign.plan import PlannedRun


def check_plan(plan: Iterable[PlannedRun]) -> None:
    """Look at each condition once: its plugins are imported, its rule is built.

    The local trainer's own module is not, since that loads PyTorch into this process for nothing.

    Raises:
      ConfigError: holds a line for every mistake, with the condition that it is in, if not in all.
    """
    one_each = _one_of_each(plan)
    found = {label: list(_problems(config)) for label, config in one_each.items()}
    lines: dict[str, list[str]] = {}
    for label, problems in found.items():
        for problem in problems:
            lines.setdefault(problem, []).append(label)
    if lines:
        raise ConfigError(
            *(
                problem if len(labels) == len(one_each) else f"{', '.join(labels)}: {problem}"
                for problem, labels in lines.items()
            )
        )


def idle_conditions(plan: Iterable[PlannedRun]) -> Iterator[str]:
    """A line for each condition that would not be the rule it is called, with the reason."""
    for label, config in _one_of_each(plan).items():
        try:
            idle = idle_sepa(config.algorithm, config.sepa, config.training.max_steps)
        except RetrainError:  # `check_plan` reports a rule that cannot be built
            continue
        if idle:
            yield f"{label}: {idle}"


def check_room(plan: Sequence[PlannedRun], place: Path, free: int) -> None:
    """Refuse a campaign whose checkpoints alone have no room; logs come on top.

    Args:
      plan: the runs.
      place: where they are to be, for the message.
      free: bytes that are free there.

    Raises:
      ConfigError: there is too little.
    """
    counts = Counter(run.label for run in plan)
    rooms = {label: room_of(config) for label, config in _one_of_each(plan).items()}
    needed = sum(counts[label] * ((r.total or r.logs) - r.logs) for label, r in rooms.items())
    if needed > free:
        raise ConfigError(
            f"{place}: {size(free)} are free, but the checkpoints of {len(plan)} runs need "
            f"{size(needed)}; make room, name another place with campaign.directory, or "
            "keep fewer with training.keep_last"
        )


def _one_of_each(plan: Iterable[PlannedRun]) -> dict[str, RunConfig]:
    return {run.label: run.config for run in plan}


def free_at(path: Path) -> int:
    """Bytes that are free where a directory is or would be."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def _problems(config: RunConfig) -> Iterator[str]:
    checks: list[Callable[[], object]] = [
        lambda: refuse_unavailable(config),
        lambda: refuse_clashes(config, declared_capabilities(config.backend.backend)),
        lambda: build_rule(config.algorithm, config.gtpo, config.hicra),
        lambda: resolve("detector", config.planning.detector),
        lambda: _check_part("reward", config.reward.type),
        lambda: _check_part("source", config.data.source),
        lambda: check_trackers(config.logging),
    ]
    for check in checks:
        # A border: what is checked may be the user's own code.
        try:
            check()
        except ConfigError as error:
            yield from error.problems
        except RetrainError as error:
            yield str(error)


def _check_part(kind: str, name: str) -> None:
    """Import a part of the user's own; those that come with retrain are known to be there."""
    if name not in KINDS[kind].builtins:
        resolve(kind, name)
