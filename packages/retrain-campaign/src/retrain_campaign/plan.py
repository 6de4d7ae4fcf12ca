"""From a campaign's file to its runs: every condition under every seed. Nothing is written."""

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
_LONGEST_NAME = 200  # bytes; file systems take 255, of which some are for what is written beside

# What each step from GRPO to MaxRL with GTPO and SEPA adds.
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

    `path` is the file; `base` what all runs share, without `[campaign]` and `[squeeze]`; `settings`
    the whole of `[campaign]`, with conditions and steps filled in. `squeeze` is None unless the
    file has the table.
    """

    path: Path
    base: RunConfig
    settings: CampaignConfig
    squeeze: SqueezeConfig | None

    @property
    def conditions(self) -> tuple[ConditionConfig, ...]:
        """The rules that are compared."""
        return self.settings.conditions

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds under which each condition runs."""
        return self.settings.seeds

    @property
    def max_steps(self) -> int:
        """Steps of every run whose condition does not say otherwise."""
        return self.settings.max_steps

    @property
    def config(self) -> RunConfig:
        """All of it as one configuration; `campaign_of` makes the same campaign from it."""
        return self.base.model_copy(update={"campaign": self.settings, "squeeze": self.squeeze})


@dataclass(frozen=True)
class PlannedRun:
    """One run: a condition, by its label, under a seed."""

    label: str
    condition: ConditionConfig
    seed: int
    name: str
    config: RunConfig


def load_campaign(path: Path, overrides: Mapping[str, object] | None = None) -> Campaign:
    """The campaign of a file; one without `[campaign]` has the defaults of that table.

    Args:
      path: a TOML file.
      overrides: values by `section.key`, typed as in TOML.

    Raises:
      ConfigError: holds a line for every mistake in the file and the overrides.
    """
    return campaign_of(load_config(path, overrides), path)


def campaign_of(config: RunConfig, path: Path) -> Campaign:
    """The campaign that a configuration describes; `path` is the file that it came from.

    `max_steps` of `[campaign]` counts before that of `[training]`, if it is written.

    Raises:
      ConfigError: all conditions would be one rule, two runs would have one name, or the file
        names what the campaign names itself.
    """
    settings = config.campaign or CampaignConfig()
    max_steps = settings.max_steps
    if "max_steps" not in settings.model_fields_set:
        written = "max_steps" in config.training.model_fields_set
        max_steps = config.training.max_steps if written else max_steps
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
    checks = (_one_rule, _one_name, _one_purpose, _no_names)
    if problems := [problem for check in checks for problem in check(campaign)]:
        raise ConfigError(*(f"{path}: {problem}" for problem in problems))
    return campaign


def plan_runs(campaign: Campaign, directory: Path = DEFAULT_DIRECTORY) -> tuple[PlannedRun, ...]:
    """Every run of a campaign, seed by seed, so that conditions can be compared early.

    How the runs are carried out, one after another or many at once, changes nothing in them.

    Args:
      campaign: what to plan.
      directory: of the campaign; each run writes into `runs/<name>` below it.
    """
    rules = [
        (condition, with_condition(campaign.base, condition)) for condition in campaign.conditions
    ]
    return tuple(
        _planned(condition, rule, seed, directory)
        for seed in campaign.seeds
        for condition, rule in rules
    )


def run_name(condition: ConditionConfig, seed: int) -> str:
    """The name of a run, which is also that of its directory: `maxrl+gtpo_s42`."""
    return f"{label_of(condition).replace(':', '.')}_s{seed}"


def _planned(condition: ConditionConfig, rule: RunConfig, seed: int, directory: Path) -> PlannedRun:
    label, name = label_of(condition), run_name(condition, seed)
    logging, backend = rule.logging, rule.backend
    told = {"log_dir": (directory / RUNS / name).as_posix(), "condition": label}
    if logging.wandb_project:
        tags = f"{label},seed{seed}" + (f",{logging.wandb_tags}" if logging.wandb_tags else "")
        told |= {"wandb_run_name": name, "wandb_group": label, "wandb_tags": tags}
    if backend.backend == "tinker" and not backend.throttle_dir:
        throttle = (directory / THROTTLE).as_posix()
        backend = backend.model_copy(update={"throttle_dir": throttle})
    config = rule.model_copy(
        update={
            "training": _with(rule.training, seed=seed),
            "logging": logging.model_copy(update=told),
            "backend": backend,
        }
    )
    return PlannedRun(label=label, condition=condition, seed=seed, name=name, config=config)


def _with(training: TrainingConfig, **values: int) -> TrainingConfig:
    return training.model_copy(update=values)


def _one_rule(campaign: Campaign) -> Iterator[str]:
    """A plugin that replaces advantage and transform leaves nothing to compare."""
    mode = campaign.base.algorithm.algorithm_mode
    own = [c.overrides.get("algorithm", {}).get("algorithm_mode") for c in campaign.conditions]
    if mode and None in own:
        yield (
            f"[algorithm] algorithm_mode is `{mode}`, which replaces advantage and transform, so "
            "that conditions would not differ; set it in the conditions that it is for"
        )


def _one_purpose(campaign: Campaign) -> Iterator[str]:
    if campaign.squeeze and campaign.squeeze.adapter_path:
        yield (
            "[squeeze] adapter_path asks for an analysis, which trains nothing, but there is also "
            "[campaign]; leave out adapter_path to analyse the first adapter of the campaign, or "
            "use `retrain squeeze ADAPTER`"
        )


def _no_names(campaign: Campaign) -> Iterator[str]:
    """What the file calls all of its runs would be lost: each has a name of its own."""
    for key in ("condition", "wandb_run_name", "wandb_group"):
        if value := getattr(campaign.base.logging, key):
            yield (
                f"[logging] {key} is `{value}`, but the runs of a campaign are named by condition "
                "and seed, and grouped by condition; leave it out"
            )


def _one_name(campaign: Campaign) -> Iterator[str]:
    """Directories need names that differ, without capitals too, and that are not too long."""
    names = Counter(run_name(condition, 0).lower() for condition in campaign.conditions)
    for condition in campaign.conditions:
        if names[run_name(condition, 0).lower()] > 1:
            yield (
                f"[[campaign.conditions]] `{label_of(condition)}` and another condition would "
                "share a directory; give them names that differ, with name"
            )
        longest = max((run_name(condition, seed) for seed in campaign.seeds), key=len)
        if (size := len(longest.encode())) > _LONGEST_NAME:
            yield (
                f"[[campaign.conditions]] `{longest[:20]}…` would be the name of a run, of {size} "
                f"bytes; at most {_LONGEST_NAME} are allowed: give the condition a shorter one, "
                "with name"
            )
