"""Hostile configuration files of campaigns."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

from hostile_input.case import Case
from hostile_input.configuration_files import FAKE, toml

# The right values come several times, so that a part of the files has a single mistake.
_SEEDS = (
    *("[1]", "[1, 2]", "[3, 4]", "[5]", "[6]"),
    *("[]", "[1, 1]", '["1"]', "[-1]", "[9223372036854775808]", "{}", '"1"', "[[1]]"),
)
_SETTINGS = (
    *("max_steps = 0", "parallel = 1", "retries = -1", "executor = 'x'", "executor_options = '{'"),
    *("max_workers = 99999999999", "stagger_seconds = inf", "directory = '/dev/null/x'"),
    *('directory = "a\\u0000"', "max_steps = 1000000000000", "parallel = true"),
)
_MODES = ('"grpo"', '"maxrl"') * 4 + ('"x"', "1", '"os.system"', '""')
_NAMES = (
    *("", "", "", "", 'name = "a"', 'name = "é"', 'name = "a b"', 'name = "../x"', "name = 1"),
    *('name = "a\\u0000"', f'name = "{"x" * 300}"', 'name = "."', 'name = "-"', 'name = ""'),
)
_OVERRIDES = (
    *("", "", "", "", "training.lr = 1e-4", "training = 1", "training.seed = 1", "x.y = 1"),
    *("logging.log_dir = 'x'", "backend.options.a = 1", "campaign.seeds = [1]"),
    *("[campaign.conditions.training]\nlr = 'x'", "training.lr = nan", "training.max_steps = 0"),
    "algorithm.advantage_mode = 'grpo'",
)
_COMMANDS = (("explain", "campaign.toml"), ("campaign", "--config", "campaign.toml"))


def campaigns(random: Random, _fixtures: Path) -> Iterator[Case]:
    """[campaign] and its conditions of every shape."""
    for _ in range(500):
        lines = ["[campaign]", f"seeds = {random.choice(_SEEDS)}"]
        if random.random() < 0.3:
            lines.append(random.choice(_SETTINGS))
        for _ in range(random.randint(0, 3)):
            lines += ["[[campaign.conditions]]", f"advantage_mode = {random.choice(_MODES)}"]
            lines += ['transform_mode = "none"', random.choice(_NAMES), random.choice(_OVERRIDES)]
        content = toml(FAKE) + "\n".join(lines).encode()
        name = "; ".join(lines)
        yield Case("campaigns", name, random.choice(_COMMANDS), {"campaign.toml": content})
    many = toml(FAKE) + f"[campaign]\nseeds = {list(range(1_000))}\n".encode()
    yield Case("campaigns", "1,000 seeds", _COMMANDS[0], {"campaign.toml": many})
