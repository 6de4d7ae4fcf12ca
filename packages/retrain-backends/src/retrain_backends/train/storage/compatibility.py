"""Which settings a resumed run may change, and which would make it another run."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from pydantic import JsonValue

from retrain_backends.config import RunConfig
from retrain_backends.config.describe import toml_value

Settings: TypeAlias = Mapping[str, JsonValue]
Effect: TypeAlias = Literal["free", "inexact", "refused"]

# How far a run goes, what it writes and where; nothing of it reaches the numbers.
_FREE = (
    "training.max_steps",
    "training.save_every",
    "training.keep_*",
    "logging.condition",
    "logging.learning_curve",
    "logging.trackers",
    "logging.wandb_*",
    "backend.adapter_path",
    "backend.max_concurrent",
    "backend.throttle_dir",
    "backend.options.timeout_s",
    "backend.options.max_failed_prompts",
    "backend.options.checkpoint_ttl_s",
    "backend.options.wait_for_gradient",
    "backend.options.download_adapter",
    "backend.options.prices",
    "backend.options.max_cost",
    "backend.options.max_hours",
    "model.base_url",
    "inference.url",
    "environment.auto_install",
    "eval.every",
    "health.*",
    "reward.timeout_s",
    "reward.max_failure_rate",
    "reward.workers",
    "reward.memory_mb",
    "campaign.*",
    "squeeze.*",
)
_WHERE = ("logging.log_dir", "resume.from")  # the directory that is gone on with, twice
# The same mathematics added up in another order: the run is the same up to rounding.
_ROUNDING = (
    "backend.devices",
    "backend.options.threads",
    "backend.options.microbatch_tokens",
    "backend.options.gradient_checkpointing",
    "backend.options.step_tokens",
    "inference.engine",
    "inference.attention_kernel",
    "inference.prefix_caching",
)


@dataclass(frozen=True)
class Change:
    """A setting that differs from the one that the run had; values as TOML writes them.

    `effect`: "free" changes no number, "inexact" changes roundings, "refused" would mix two runs.
    """

    setting: str
    before: str
    now: str
    effect: Effect

    @property
    def inexact(self) -> bool:
        """Whether the run goes on with other roundings."""
        return self.effect == "inexact"

    def __str__(self) -> str:
        return f"{self.setting}: {self.before} -> {self.now}"


def settings_of(config: RunConfig) -> dict[str, JsonValue]:
    """Every setting by `section.key`, or `backend.options.key`, except where the run's logs are."""
    tables = config.model_dump(mode="json", by_alias=True)
    flat = {
        f"{section}.{key}": value
        for section, table in tables.items()
        for key, value in _flat(table or {})
    }
    return {name: flat[name] for name in sorted(flat) if name not in _WHERE}


def configuration_digest(settings: Settings) -> str:
    """SHA-256 of the settings that make a run the run it is, hexadecimal."""
    bearing = {name: value for name, value in settings.items() if effect_of(name) == "refused"}
    return hashlib.sha256(json.dumps(bearing, sort_keys=True).encode()).hexdigest()


def changes_between(before: Settings, now: Settings, *, evaluated: bool) -> list[Change]:
    """Every setting that differs; one that `before` does not know had its default.

    How a run evaluates may be set as long as it has not evaluated: `eval.jsonl` and the scores of
    the checkpoints are of one kind of evaluation.
    """
    default = settings_of(RunConfig())
    found = []
    for name in sorted({*before, *now}):
        old, new = (side.get(name, default.get(name)) for side in (before, now))
        if old != new:
            first = not evaluated and name.startswith("eval.")
            found.append(
                Change(name, _shown(old), _shown(new), "free" if first else effect_of(name))
            )
    return found


def effect_of(setting: str) -> Effect:
    """What changing a setting does to a run that has begun."""
    if any(fnmatchcase(setting, pattern) for pattern in _FREE):
        return "free"
    return "inexact" if setting in _ROUNDING else "refused"


def _flat(table: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    for key, value in table.items():
        if key == "options" and isinstance(value, dict):
            yield from ((f"options.{name}", option) for name, option in value.items())
        else:
            yield key, value


def _shown(value: JsonValue) -> str:
    return "unset" if value is None else toml_value(value)
