"""The conditions of a campaign: what each changes in the configuration that all of them share."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from retrain_backends.config.problems import Origin, problems_of
from retrain_backends.config.run import RunConfig
from retrain_backends.config.section import table_from_json
from retrain_backends.config.study import ConditionConfig
from retrain_backends.errors import ConfigError

# Keys that are not a condition's to set, each with the reason.
_TAKEN = {
    "algorithm.advantage_mode": "write advantage_mode without the table",
    "algorithm.transform_mode": "write transform_mode without the table",
    "training.seed": "every condition runs under all seeds of [campaign]",
    "logging.log_dir": "each run writes into a directory of its own",
    "logging.condition": "name, without the table, is what the condition is called",
    "logging.wandb_run_name": "a run is called by its condition and its seed",
    "logging.wandb_group": "the runs of a condition are a group",
    "backend.adapter_path": "each run writes into a directory of its own",
    "backend.throttle_dir": "all runs of a campaign share one",
}
_WHOLE = ("campaign", "squeeze", "resume")


def label_of(condition: ConditionConfig) -> str:
    """What a condition is called: its name, or `{advantage_mode}+{transform_mode}`."""
    return condition.name or f"{condition.advantage_mode}+{condition.transform_mode}"


def with_condition(config: RunConfig, condition: ConditionConfig) -> RunConfig:
    """The configuration as a condition has it; its tables replace single keys of the shared ones.

    That holds for tables within tables too, such as `backend.options`.

    Raises:
      ConfigError: holds a line for every mistake in the tables of the condition.
    """
    problems = list(_taken_keys(condition.overrides))
    if problems:
        raise ConfigError(*problems)
    changes = {name: dict(table) for name, table in condition.overrides.items()}
    changes.setdefault("algorithm", {}).update(
        advantage_mode=condition.advantage_mode, transform_mode=condition.transform_mode
    )
    # Fields as they are, since a dump has those tables as text that hold a null.
    shared = {name: dict(section or ()) for name, section in config}
    given = {name: _over(shared.get(name), own) for name, own in changes.items()}
    try:
        changed = RunConfig.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError(*problems_of(error, Origin(""), given)) from None
    return config.model_copy(update={name: getattr(changed, name) for name in changes})


def _over(shared: object, own: object) -> Any:
    """A value of the condition's in place of the shared one; of two tables, key by key."""
    if not isinstance(shared, dict):
        return own
    own = table_from_json(own)
    if not isinstance(own, dict):
        return own
    return {**shared, **{key: _over(shared.get(key), value) for key, value in own.items()}}


def problems_of_conditions(config: RunConfig, file: str) -> Iterator[str]:
    """A line for every mistake in the conditions of a campaign: in their tables, or two alike."""
    conditions = config.campaign.conditions if config.campaign else ()
    yield from _duplicates(conditions, file)
    for number, condition in enumerate(conditions, start=1):
        try:
            with_condition(config, condition)
        except ConfigError as error:
            place = f"{file}: [[campaign.conditions]] number {number}: "
            yield from (place + problem.removeprefix(": ") for problem in error.problems)


def _duplicates(conditions: Sequence[ConditionConfig], file: str) -> Iterator[str]:
    counts = Counter(map(label_of, conditions))
    for label, count in counts.items():
        if count > 1:
            yield (
                f"{file}: [[campaign.conditions]] {count} conditions are called `{label}`; give "
                "them names that differ, with name"
            )


def _taken_keys(overrides: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for name, table in overrides.items():
        if name in _WHOLE:
            yield f"[{name}] cannot be set here: it is the campaign's as a whole"
        for key in table:
            if reason := _TAKEN.get(f"{name}.{key}"):
                yield f"[{name}] {key} cannot be set here: {reason}"
