"""Which settings may change when a run is resumed."""

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

# Length of the run, and what it writes and where; without effect on the numbers.
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
    "inference.timeout_s",
    "inference.max_requests",
    "inference.adapter_dir",
    "inference.prompts",
    "inference.inexact_prompts",
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
_LOCATION = ("logging.log_dir", "resume.from")  # the directory of the resumed run, twice
# The same mathematics summed in another order: the results are equal up to rounding.
_ROUNDING = (
    "backend.devices",
    "backend.options.threads",
    "backend.options.microbatch_tokens",
    "backend.options.gradient_checkpointing",
    "backend.options.step_tokens",
    "inference.engine",
    "inference.logprobs",
    "inference.overlap",
    "inference.attention_kernel",
    "inference.prefix_caching",
    "planning.device",
)


@dataclass(frozen=True)
class Change:
    """A setting that differs from the saved one; values are written as in TOML.

    `effect`: "free" changes no number, "inexact" changes rounding, "refused" is not allowed.
    """

    setting: str
    before: str
    now: str
    effect: Effect

    @property
    def inexact(self) -> bool:
        """Whether the change affects rounding."""
        return self.effect == "inexact"

    def __str__(self) -> str:
        return f"{self.setting}: {self.before} -> {self.now}"


def settings_of(config: RunConfig) -> dict[str, JsonValue]:
    """Every setting by `section.key` or `backend.options.key`, except the run directory."""
    tables = config.model_dump(mode="json", by_alias=True)
    flat = {
        f"{section}.{key}": value
        for section, table in tables.items()
        for key, value in _flat(table or {})
    }
    return {name: flat[name] for name in sorted(flat) if name not in _LOCATION}


def configuration_digest(settings: Settings) -> str:
    """SHA-256 of the settings that may not change, hexadecimal."""
    fixed = {name: value for name, value in settings.items() if effect_of(name) == "refused"}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def changes_between(before: Settings, now: Settings, *, evaluated: bool) -> list[Change]:
    """Every setting that differs; one that is missing in `before` had its default.

    The settings of `[eval]` may change until the first evaluation, so that all rows of `eval.jsonl`
    and all scores of checkpoints come from the same kind of evaluation.
    """
    default = settings_of(RunConfig())
    changes = []
    for name in sorted({*before, *now}):
        old, new = (side.get(name, default.get(name)) for side in (before, now))
        if old != new:
            allowed = not evaluated and name.startswith("eval.")
            changes.append(
                Change(name, _shown(old), _shown(new), "free" if allowed else effect_of(name))
            )
    return changes


def effect_of(setting: str) -> Effect:
    """The effect of changing a setting of a run that has started."""
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
