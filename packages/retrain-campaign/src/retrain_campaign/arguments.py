"""The command line of a campaign.

retrain campaign.toml [--flag value]...                 a file with [campaign]
retrain campaign.toml --resume [DIR]                    resume its newest campaign, or DIR
retrain campaign DIR [--flag value]...                  resume the campaign in DIR with its own file
retrain campaign --config FILE --seeds 1,2 [--execute]  without --execute: print the commands
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from retrain_backends.config import DEFAULT_FILE, Arguments, RunConfig, label_of, load_arguments
from retrain_backends.config.toml import read_toml
from retrain_backends.errors import ConfigError
from retrain_campaign.storage.campaign_directory import CAMPAIGN_FILE, MANIFEST_FILE, is_campaign

_CONFIG, _EXECUTE = "--config", "--execute"
OWN_FLAGS: Mapping[str, bool] = {_CONFIG: True, _EXECUTE: False}
"""The flags of the command beside those of the configuration, and whether they take a value."""

_RESUME = "resume.from"
_STEPS, _ALL_STEPS = "training.max_steps", "campaign.max_steps"
# Settings that differ between the runs of a campaign.
_PER_RUN = {
    "training.seed": "--seed: a campaign has several; --seeds 1,2,3 sets them",
    "algorithm.advantage_mode": "--advantage-mode: each condition of a campaign has its own",
    "algorithm.transform_mode": "--transform-mode: each condition of a campaign has its own",
    "backend.adapter_path": "--adapter-path: each run of a campaign has its own",
}


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    `config` was read from `file`. With `resume` an earlier campaign is resumed: that in
    `directory`, or if it is None, the newest of the file. Without `execute` the commands of the
    runs are only printed.
    """

    config: RunConfig
    file: Path
    resume: bool
    directory: Path | None
    execute: bool


def asks_for_campaign(read: Arguments) -> bool:
    """Whether a command line means a campaign, by its file, a flag, or the directory to resume."""
    if "campaign" in read.dropped:
        return False
    directory = read.overrides.get(_RESUME)
    if directory and not read.paths:
        return is_campaign(Path(str(directory)))
    written = any(name.startswith("campaign.") for name in read.overrides)
    return written or any(_is_of_campaign(Path(path)) for path in read.paths or [DEFAULT_FILE])


def read_campaign(read: Arguments) -> Asked:
    """Read the command line of a campaign.

    Raises:
      ConfigError: has a line for every mistake in the flags and the file.
    """
    refused = [reason for name, reason in _PER_RUN.items() if name in read.overrides]
    older = _CONFIG in read.own
    paths = [str(read.own[_CONFIG]), *read.paths] if older else [*read.paths]
    overrides = dict(read.overrides)
    resumed = overrides.pop(_RESUME, None)
    directory = Path(str(resumed)) if resumed else None
    resume = read.resume_alone or directory is not None
    if len(paths) == 1 and Path(paths[0]).is_dir():
        resume, directory = True, Path(paths.pop())
    if directory and not is_campaign(directory):
        raise ConfigError(f"{directory}: is not a campaign (it has no {MANIFEST_FILE} of one)")
    if directory and not paths:
        paths = [str(directory / CAMPAIGN_FILE)]
    flags = dict(read.flags)
    if _STEPS in overrides:  # applies to all runs
        if _ALL_STEPS in overrides:
            both = f"{flags[_STEPS]} and {flags[_ALL_STEPS]}"
            refused.append(f"{both}: both set the steps of all runs; leave one out")
        overrides[_ALL_STEPS], flags[_ALL_STEPS] = overrides.pop(_STEPS), flags.pop(_STEPS)
    config = load_arguments(
        replace(
            read,
            paths=paths,
            overrides=overrides,
            flags=flags,
            resume_alone=False,
            problems=[*read.problems, *refused],
        )
    )
    file = Path(paths[0]) if paths else DEFAULT_FILE
    if resume and (ignored := list(_ignored_flags(config, flags, file))):
        raise ConfigError(*ignored)
    return Asked(config, file, resume, directory, _EXECUTE in read.own or not older)


def _ignored_flags(config: RunConfig, flags: Mapping[str, str], file: Path) -> Iterator[str]:
    """A line for each flag that would not change all runs, because a condition sets its key."""
    for name, flag in flags.items():
        setting = _STEPS if name == _ALL_STEPS else name
        section, _, key = setting.partition(".")
        conditions = config.campaign.conditions if config.campaign else ()
        own = [label_of(c) for c in conditions if key in c.overrides.get(section, {})]
        if own:
            yield (
                f"{flag}: `{'`, `'.join(own)}` sets {setting} itself, so that the flag would not "
                f"change its runs; change {setting} in {file}"
            )


def _is_of_campaign(path: Path) -> bool:
    if path.is_dir():
        return is_campaign(path)
    try:
        return "campaign" in read_toml(path)
    except ConfigError:  # reported when the file is loaded
        return False
