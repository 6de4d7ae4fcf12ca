"""Plans the runs of a campaign from its file: every condition with every seed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.config import (
    CampaignConfig,
    ConditionConfig,
    RunConfig,
    SqueezeConfig,
    TrainingConfig,
    label_of,
    load_config,
    with_condition,
)
from retrain_backends.errors import ConfigError

DEFAULT_DIRECTORY = Path("logs/campaign")
RUNS = "runs"
THROTTLE = "tinker_throttle"
_MAX_NAME_BYTES = 200  # file systems allow 255; some are needed for suffixes

# The default conditions: from GRPO to MaxRL with GTPO and SEPA, one change at a time.
ABLATION = (
    ("grpo", "none"),
    ("maxrl", "none"),
    ("maxrl", "gtpo"),
    ("maxrl", "gtpo_hicra"),
    ("maxrl", "gtpo_sepa"),
)


@dataclass(frozen=True)
class Campaign:
    """A campaign as its file describes it.

    Args:
      path: the file.
      base: configuration that all runs share, without `[campaign]` and `[squeeze]`.
      settings: `[campaign]`, with default conditions and steps filled in.
      squeeze: `[squeeze]`; None if the file does not have the table.
    """

    path: Path
    base: RunConfig
    settings: CampaignConfig
    squeeze: SqueezeConfig | None

    @property
    def conditions(self) -> tuple[ConditionConfig, ...]:
        """The conditions that are compared."""
        return self.settings.conditions

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that each condition is run with."""
        return self.settings.seeds

    @property
    def max_steps(self) -> int:
        """Steps of each run, unless its condition sets another number."""
        return self.settings.max_steps

    @property
    def config(self) -> RunConfig:
        """The campaign as one configuration, from which `campaign_of` makes it again."""
        return self.base.model_copy(update={"campaign": self.settings, "squeeze": self.squeeze})


@dataclass(frozen=True)
class PlannedRun:
    """One run: a condition with a seed, and the complete configuration."""

    label: str
    condition: ConditionConfig
    seed: int
    name: str
    config: RunConfig


def load_campaign(path: Path, overrides: Mapping[str, object] | None = None) -> Campaign:
    """The campaign that a file describes; without `[campaign]`, the defaults of that table apply.

    Args:
      path: a TOML file.
      overrides: values by `section.key`, typed as in TOML.

    Raises:
      ConfigError: holds a line for every mistake in the file and the overrides.
    """
    return campaign_of(load_config(path, overrides), path)


def campaign_of(config: RunConfig, path: Path) -> Campaign:
    """The campaign that a configuration describes.

    If both are set, `max_steps` of `[campaign]` takes precedence over that of `[training]`.

    Args:
      config: the configuration.
      path: the file that it was read from.

    Raises:
      ConfigError: the conditions would not differ, two runs would have the same name, or the file
        sets names that the campaign sets itself.
    """
    settings = config.campaign or CampaignConfig()
    max_steps = settings.max_steps
    if "max_steps" not in settings.model_fields_set:
        is_set = "max_steps" in config.training.model_fields_set
        max_steps = config.training.max_steps if is_set else max_steps
    conditions = settings.conditions or tuple(
        ConditionConfig(advantage_mode=advantage, transform_mode=transform)
        for advantage, transform in ABLATION
    )
    base = config.model_copy(
        update={
            "campaign": None,
            "squeeze": None,
            "resume": type(config.resume)(),
            "training": _with(config.training, seed=-1, max_steps=max_steps),
            "backend": config.backend.model_copy(update={"adapter_path": ""}),
        }
    )
    settings = settings.model_copy(update={"max_steps": max_steps, "conditions": conditions})
    campaign = Campaign(path=path, base=base, settings=settings, squeeze=config.squeeze)
    checks = (_check_algorithm, _check_names, _check_squeeze, _check_logging)
    if problems := [problem for check in checks for problem in check(campaign)]:
        raise ConfigError(*(f"{path}: {problem}" for problem in problems))
    return campaign


def plan_runs(campaign: Campaign, directory: Path = DEFAULT_DIRECTORY) -> tuple[PlannedRun, ...]:
    """Every run of a campaign, ordered by seed, so that conditions can be compared early.

    The runs do not depend on how many of them are executed at once.

    Args:
      campaign: what to plan.
      directory: of the campaign; each run writes to `runs/<name>` in it.
    """
    configs = [
        (condition, with_condition(campaign.base, condition)) for condition in campaign.conditions
    ]
    return tuple(
        _planned(condition, config, seed, directory)
        for seed in campaign.seeds
        for condition, config in configs
    )


def run_name(condition: ConditionConfig, seed: int) -> str:
    """The name of a run and of its directory: `maxrl+gtpo_s42`."""
    return f"{label_of(condition).replace(':', '.')}_s{seed}"


def _planned(
    condition: ConditionConfig, config: RunConfig, seed: int, directory: Path
) -> PlannedRun:
    label, name = label_of(condition), run_name(condition, seed)
    logging, backend = config.logging, config.backend
    names = {"log_dir": (directory / RUNS / name).as_posix(), "condition": label}
    if logging.wandb_project:
        tags = f"{label},seed{seed}" + (f",{logging.wandb_tags}" if logging.wandb_tags else "")
        names |= {"wandb_run_name": name, "wandb_group": label, "wandb_tags": tags}
    if backend.backend == "tinker" and not backend.throttle_dir:
        throttle = (directory / THROTTLE).as_posix()
        backend = backend.model_copy(update={"throttle_dir": throttle})
    own = config.model_copy(
        update={
            "training": _with(config.training, seed=seed),
            "logging": logging.model_copy(update=names),
            "backend": backend,
        }
    )
    return PlannedRun(label=label, condition=condition, seed=seed, name=name, config=own)


def _with(training: TrainingConfig, **values: int) -> TrainingConfig:
    return training.model_copy(update=values)


def _check_algorithm(campaign: Campaign) -> Iterator[str]:
    """With a shared plugin in place of advantage and transform, the conditions are the same."""
    mode = campaign.base.algorithm.algorithm_mode
    own = [c.overrides.get("algorithm", {}).get("algorithm_mode") for c in campaign.conditions]
    if mode and None in own:
        yield (
            f"[algorithm] algorithm_mode is `{mode}`, which replaces advantage and transform, so "
            "that conditions would not differ; set it in the conditions that use it"
        )


def _check_squeeze(campaign: Campaign) -> Iterator[str]:
    if campaign.squeeze and campaign.squeeze.adapter_path:
        yield (
            "[squeeze] adapter_path requests an analysis without training, but the file also has "
            "[campaign]; leave out adapter_path to analyse the first adapter of the campaign, or "
            "use `retrain squeeze ADAPTER`"
        )


def _check_logging(campaign: Campaign) -> Iterator[str]:
    """Names that the campaign sets for each run would be overwritten."""
    for key in ("condition", "wandb_run_name", "wandb_group"):
        if value := getattr(campaign.base.logging, key):
            yield (
                f"[logging] {key} is `{value}`, but the runs of a campaign are named by condition "
                "and seed, and grouped by condition; leave it out"
            )


def _check_names(campaign: Campaign) -> Iterator[str]:
    """Run directories need distinct names, ignoring case, that are not too long."""
    names = Counter(run_name(condition, 0).lower() for condition in campaign.conditions)
    for condition in campaign.conditions:
        if names[run_name(condition, 0).lower()] > 1:
            yield (
                f"[[campaign.conditions]] `{label_of(condition)}` and another condition would "
                "share a directory; give them distinct names, with name"
            )
        longest = max((run_name(condition, seed) for seed in campaign.seeds), key=len)
        if (size := len(longest.encode())) > _MAX_NAME_BYTES:
            yield (
                f"[[campaign.conditions]] `{longest[:20]}…`: the name of its run would have {size} "
                f"bytes; at most {_MAX_NAME_BYTES} are allowed: give the condition a shorter name, "
                "with name"
            )
