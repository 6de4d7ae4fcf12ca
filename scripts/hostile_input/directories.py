"""Directories of runs and campaigns in which a file is damaged."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from hostile_input.case import Case, Special
from hostile_input.damage import damaged, whole_files

_OF_RUN = (
    "resume-check run",
    "status run",
    "status run --json",
    "status",
    "explain --from run",
    "explain --resume run",
    "--resume run",
    "--resume run --max-steps 3",
    "squeeze run/final",
)
_OF_CAMPAIGN = (
    "status campaign",
    "status campaign --all",
    "status campaign --json",
    "explain --from campaign",
    "explain campaign/campaign.toml",
    "explain campaign/campaign.toml --from campaign",
    "campaign campaign",
)
# A log is no device and no pipe unless somebody made it one.
_KINDS = (Special.ABSENT, Special.DIRECTORY, Special.LOOP, Special.UNREADABLE)
_TEXTS = (".json", ".jsonl", ".toml", ".log")


def directories_of_runs(random: Random, fixtures: Path) -> Iterator[Case]:
    """Directories of runs in which a file is damaged."""
    yield from _directories("run", _OF_RUN, 700, random, fixtures)


def directories_of_campaigns(random: Random, fixtures: Path) -> Iterator[Case]:
    """Directories of campaigns in which a file is damaged."""
    yield from _directories("campaign", _OF_CAMPAIGN, 400, random, fixtures)


def _directories(
    name: str, commands: Sequence[str], number: int, random: Random, fixtures: Path
) -> Iterator[Case]:
    found = (path for path in (fixtures / name).rglob("*") if path.is_file())
    paths = sorted(path for path in found if not path.name.startswith("."))
    for _ in range(number):
        path, words = random.choice(paths), tuple(random.choice(commands).split())
        relative = str(path.relative_to(fixtures))
        damage, content = _damaged(path, random)
        group, what = f"directories of a {name}", f"{relative}: {damage}"
        files = {relative: content}
        yield Case(group, what, words, files, codes=(1,), silent=True, copied=name)


def _damaged(path: Path, random: Random) -> tuple[str, bytes | Special]:
    content, kind = path.read_bytes(), random.random()
    if kind < 0.15:
        special = random.choice(_KINDS)
        return special.value, special
    if kind < 0.25 and path.suffix in _TEXTS:
        return random.choice([*whole_files(content, random).items()])
    return damaged(content, random, lines=path.suffix in (".jsonl", ".log"))
