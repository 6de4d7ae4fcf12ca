"""Hostile flags, words and environment variables."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

from hostile_input.case import Case, Special, explained
from hostile_input.configuration_files import FAKE, toml
from hostile_input.damage import changed_bytes, whole_files
from retrain_backends.config.flags import flag_fields

_LONG = "x" * 100_000
_TEXTS = (
    *("", " ", "x", "nan", "inf", "1e999", "-1", "0", "1", "0.5", "9" * 5000, "true", "False"),
    *("[", "[1", "1,2", "1,,2", "{", '{"a":', '{"a": null}', "\udcff", "é", _LONG, "--", "=", "-"),
    *("a\nb", "\x1b[31m", "a.toml", "1_000", "0x10", "１", "[" * 3000, '{"a":' * 3000, "/dev/null"),
)
_COMMANDS = (
    *("run", "campaign", "explain", "status", "squeeze", "resume-check", "rewards", "init"),
    *("flags", "schema", "completion", "help"),
)
_WORDS = (
    *("", " ", "x" * 255 + ".toml", "x" * 5000, "a\nb", "\x1b[31m", "\udcff", "é"),
    *("-", "--", "---", "-x", "--x", "--=", "=", "a=b", "[", "*", ".", "{}", "[1,"),
    *("/nonexistent/x.toml", "run.toml", "run.toml/"),
    *("run.toml/x", "--help=1", "-1", "0", "-5", "99999999999999999999", "1e9", "nan", "bash"),
    *("check", "--debug=1", "--json"),
    *("--all", "--every", "--every=nan", "--every=inf", "--prove", "--examples", "--from"),
    *("--config", "--execute"),
    *("--seeds", "--no-campaign", "--no-lr", "--no-shuffle=1", "tinker://", "tinker://x"),
    "--target-ranks",
    *("--compress-to", "--output-path", "--no-squeeze", "--resume"),
)
_ENV_FILE = (
    b"OPENAI_API_KEY=a\nexport TINKER_BASE_URL='http://localhost:1'\n# x\nA=${B}\nB=\"x\\n\"\n"
)
_ENV_FILES = {
    "NUL in a value": b"A=b\0c\n",
    "NUL in a name": b"A\0B=c\n",
    "no name": b"=x\n",
    "no value": b"A\n",
    "a loop": b"A=${B}\nB=${A}\n",
    "a long line": b"A=" + b"x" * 10**6,
    "nested": b"A=" + b"${" * 5000,
    "surrogates": b"A=\xed\xa0\x80",
    "a space": b"A B=c\n",
}
_VARIABLES = (
    *("TINKER_API_KEY", "TINKER_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "TERM"),
    *("HOME", "NO_COLOR", "CUDA_VISIBLE_DEVICES", "HF_HOME", "LANG", "TMPDIR", "PATH"),
)


def flags(random: Random, _fixtures: Path) -> Iterator[Case]:
    """Every flag with bad texts, repeated, without a value; and flags that do not exist."""
    start, files = ("explain", "run.toml"), {"run.toml": toml(FAKE)}
    fields = flag_fields()
    for name, doc in fields.items():
        numeric = doc.kind in ("integer", "number")
        for text in random.sample(_TEXTS, 8):
            words = (*start, f"--{name}={text}")
            if "\udcff" in text or (numeric and text in ("", "x", "[")):
                named = (f"--{name}",)
                yield Case("flags", words[-1], words, files, valid=False, named=named)
            else:
                yield Case("flags", words[-1], words, files)
        first, second = random.sample(_TEXTS, 2)
        cut, joint = random.randrange(len(name)), random.choice("-_.éX0")
        unknown = f"--{name[:cut]}{joint}{name[random.randrange(len(name)) :]}=1"
        yield Case("flags", "twice", (*start, f"--{name}", first, f"--{name}={second}"), files)
        for words in ([f"--{name}"], [f"--no-{name}"], [unknown]):
            yield Case("flags", words[0], (*start, *words), files)


def words(random: Random, _fixtures: Path) -> Iterator[Case]:
    """Command lines of random words."""
    files = {"run.toml": toml(FAKE)}
    for _ in range(1200):
        command = random.choice(_COMMANDS)
        arguments = [command, *random.choices(_WORDS, k=random.randint(1, 4))]
        if command in ("run", "campaign") and "run.toml" in arguments:
            arguments.append("--help")  # nothing is started
        yield Case("words", " ".join(arguments), tuple(arguments), files, codes=(1,), silent=True)


def environment(random: Random, _fixtures: Path) -> Iterator[Case]:
    """`.env` files, and variables."""
    contents = [*_ENV_FILES.items(), *whole_files(_ENV_FILE, random).items()]
    contents += [changed_bytes(_ENV_FILE, random) for _ in range(150)]
    # A pipe is a usual way to provide `.env`, which waits for its other end.
    contents += [(kind.value, kind) for kind in Special if kind is not Special.FIFO]
    for name, content in contents:
        yield explained("environment", f".env: {name}", toml(FAKE), {".env": content})
    tinker = toml({**FAKE, "backend": {"backend": '"tinker"'}})
    judge = toml({**FAKE, "reward": {"type": '"judge"', "judge_model": '"m"'}})
    for name in _VARIABLES:
        configuration = tinker if name.startswith("TINKER") else judge
        for text in random.sample([text for text in _TEXTS if "/" not in text], 8):
            variable = {name: text}
            yield explained("environment", f"{variable}", configuration, environment=variable)
