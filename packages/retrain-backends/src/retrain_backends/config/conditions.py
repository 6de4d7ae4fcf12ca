"""The conditions of a campaign: their changes to the shared configuration."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from retrain_backends.config.problems import Origin, problems_of
from retrain_backends.config.run import RunConfig
from retrain_backends.config.section import table_from_json
from retrain_backends.config.study import ConditionConfig
from retrain_backends.errors import ConfigError

# Keys that a condition may not set, each with the reason.
_RESERVED = {
    "algorithm.advantage_mode": "write advantage_mode without the table",
    "algorithm.transform_mode": "write transform_mode without the table",
    "training.seed": "every condition runs under all seeds of [campaign]",
    "logging.log_dir": "each run writes into a directory of its own",
    "logging.condition": "write name without the table",
    "logging.wandb_run_name": "a run is named by its condition and its seed",
    "logging.wandb_group": "the runs of a condition are a group",
    "backend.adapter_path": "each run writes into a directory of its own",
    "backend.throttle_dir": "all runs of a campaign share one",
}
_SHARED = ("campaign", "squeeze", "resume")


def label_of(condition: ConditionConfig) -> str:
    """The label of a condition: its name, or `{advantage_mode}+{transform_mode}`."""
    return condition.name or f"{condition.advantage_mode}+{condition.transform_mode}"


def with_condition(config: RunConfig, condition: ConditionConfig) -> RunConfig:
    """The configuration with the overrides of a condition.

    Overrides replace single keys, also in nested tables such as `backend.options`.

    Raises:
      ConfigError: has a line for every mistake in the tables of the condition.
    """
    problems = list(_reserved_keys(condition.overrides))
    if problems:
        raise ConfigError(*problems)
    changes = {name: dict(table) for name, table in condition.overrides.items()}
    changes.setdefault("algorithm", {}).update(
        advantage_mode=condition.advantage_mode, transform_mode=condition.transform_mode
    )
    # The fields themselves, because a dump contains tables with a null as text.
    shared = {name: dict(section or ()) for name, section in config}
    merged = {name: _merged(shared.get(name), override) for name, override in changes.items()}
    try:
        changed = RunConfig.model_validate(merged, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError(*problems_of(error, Origin(""), merged)) from None
    return config.model_copy(update={name: getattr(changed, name) for name in changes})


def _merged(shared: object, override: object) -> Any:
    """The override of a value; two tables are merged by key."""
    if not isinstance(shared, dict):
        return override
    override = table_from_json(override)
    if not isinstance(override, dict):
        return override
    return {**shared, **{key: _merged(shared.get(key), value) for key, value in override.items()}}


def problems_of_conditions(config: RunConfig, file: str) -> Iterator[str]:
    """A line for every mistake in the conditions of a campaign, duplicate labels included."""
    conditions = config.campaign.conditions if config.campaign else ()
    yield from _duplicates(conditions, file)
    for number, condition in enumerate(conditions, start=1):
        try:
            with_condition(config, condition)
        except ConfigError as error:
            prefix = f"{file}: [[campaign.conditions]] number {number}: "
            yield from (prefix + problem.removeprefix(": ") for problem in error.problems)


def _duplicates(conditions: Sequence[ConditionConfig], file: str) -> Iterator[str]:
    counts = Counter(map(label_of, conditions))
    for label, count in counts.items():
        if count > 1:
            yield (
                f"{file}: [[campaign.conditions]] {count} conditions have the label `{label}`; set "
                "name to tell them apart"
            )


def _reserved_keys(overrides: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for name, table in overrides.items():
        if name in _SHARED:
            yield f"[{name}] cannot be set here: all runs of a campaign share it"
        for key in table:
            if reason := _RESERVED.get(f"{name}.{key}"):
                yield f"[{name}] {key} cannot be set here: {reason}"
