"""The command line of a campaign.

retrain campaign.toml [--flag value]...                 a file with [campaign]
retrain campaign.toml --resume [DIR]                    go on with its newest campaign, or DIR
retrain campaign DIR [--flag value]...                  go on as the file was
retrain campaign --config FILE --seeds 1,2 [--execute]  without --execute: print the commands
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.config import DEFAULT_FILE, RunConfig, load_command_line, read_arguments
from retrain_backends.config.toml import read_toml
from retrain_backends.errors import ConfigError
from retrain_campaign.storage.find_directory import CAMPAIGN_FILE
from retrain_campaign.storage.manifest import MANIFEST_FILE, is_campaign

# Short names that mean something else in a single run.
_RENAMED = {"--seeds": "--campaign-seeds", "--max-steps": "--campaign-max-steps"}
# Settings that each run has its own of.
_NOT_HERE = {
    "training.seed": "--seed: a campaign has several; --seeds 1,2,3 sets them",
    "algorithm.advantage_mode": "--advantage-mode: each condition of a campaign has its own",
    "algorithm.transform_mode": "--transform-mode: each condition of a campaign has its own",
    "backend.adapter_path": "--adapter-path: each run of a campaign has its own",
}
_RESUME, _CONFIG, _EXECUTE = "--resume", "--config", "--execute"


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    `file` is where `config` came from. `goes_on` with an earlier campaign: that in `directory`, or
    without one the newest of the file. Without `execute` the commands are only printed.
    """

    config: RunConfig
    file: Path
    goes_on: bool
    directory: Path | None
    execute: bool


def asks_for_campaign(arguments: Sequence[str]) -> bool:
    """Whether `retrain ARGUMENTS` means a campaign: by its file, a flag, or the directory."""
    goes_on, directory, rest = _taken_resume(arguments)
    read = read_arguments(rest)
    if "campaign" in read.dropped:
        return False
    if goes_on and directory and not read.paths:
        return is_campaign(directory)
    written = any(name.startswith("campaign.") for name in read.overrides)
    return written or any(_is_of_campaign(Path(path)) for path in read.paths or [DEFAULT_FILE])


def read_campaign_arguments(arguments: Sequence[str]) -> Asked:
    """Take the command line of a campaign apart.

    Raises:
      ConfigError: holds a line for every mistake in the flags and the file.
    """
    goes_on, directory, rest = _taken_resume(arguments)
    older = _names_file(rest)
    execute = _EXECUTE in rest or not older
    rest = [_renamed(word) for word in rest if word not in (_EXECUTE, _CONFIG)]
    read = read_arguments(rest)
    if problems := [reason for name, reason in _NOT_HERE.items() if name in read.overrides]:
        raise ConfigError(*problems)
    paths = read.paths
    if len(paths) == 1 and Path(paths[0]).is_dir():
        goes_on, directory = True, Path(paths[0])
        rest.remove(paths.pop())
    if directory and not is_campaign(directory):
        raise ConfigError(f"{directory}: is no campaign (it has no {MANIFEST_FILE} of one)")
    file = Path(paths[0]) if paths else DEFAULT_FILE
    if directory and not paths:
        file = directory / CAMPAIGN_FILE
        rest = [str(file), *rest]
    return Asked(load_command_line(rest), file, goes_on, directory, execute)


def _taken_resume(arguments: Sequence[str]) -> tuple[bool, Path | None, list[str]]:
    """Whether to go on, with which directory if one is named, and the rest of the arguments."""
    rest = list(arguments)
    for index, word in enumerate(rest):
        name, _, value = word.partition("=")
        if name != _RESUME:
            continue
        following = rest[index + 1 : index + 2]
        if not value and following and not following[0].startswith("-"):
            value = following[0] if not following[0].endswith(".toml") else ""
        taken = 2 if value and "=" not in word else 1
        return True, Path(value) if value else None, rest[:index] + rest[index + taken :]
    return False, None, rest


def _names_file(arguments: Sequence[str]) -> bool:
    """Whether the older command line is used, which names its file by a flag."""
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name == _CONFIG:
            file = value if equals else "".join(arguments[index + 1 : index + 2])
            if not file or file.startswith("-"):
                raise ConfigError(f"{_CONFIG}: needs a file; write {_CONFIG} FILE.toml")
            return True
    return False


def _renamed(word: str) -> str:
    name, equals, value = word.partition("=")
    if name == _CONFIG:
        return value
    return _RENAMED.get(name, name) + equals + value


def _is_of_campaign(path: Path) -> bool:
    if path.is_dir():
        return is_campaign(path)
    try:
        return "campaign" in read_toml(path)
    except ConfigError:  # told by whoever loads it
        return False
