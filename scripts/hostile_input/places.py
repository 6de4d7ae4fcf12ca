"""What stands where a file or a directory is expected."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from hostile_input.case import Case, Special
from hostile_input.configuration_files import FAKE, toml, with_value

# The command for each use of a path, which replaces `@`.
_COMMANDS: Mapping[str, str] = {
    "file": "@",
    "explain": "explain @",
    "campaign": "campaign @",
    "config": "campaign --config @",
    "squeeze": "squeeze @",
    "log_dir": "run.toml --log-dir @",
    "log_dir of explain": "explain run.toml --log-dir @",
    "adapter_path": "run.toml --adapter-path @",
    "throttle_dir": "run.toml --throttle-dir @",
    "resume": "--resume @",
    "resume of a file": "run.toml --resume @",
    "status": "status @",
    "from": "explain --from @",
    "from of a file": "explain run.toml --from @",
    "resume-check": "resume-check @",
    "init": "init @",
    "campaign directory": "campaign campaign.toml --campaign-directory @",
    "rewards": "rewards check @",
    "model": "explain run.toml --model @",
    "data": "explain run.toml --data-source jsonl --data-path @",
    "data of the hub": "explain run.toml --data-source hf --data-path @",
    "data of math": "explain run.toml --data-source math --data-path @",
    "output": "squeeze adapter --output-path @",
}
_PLACES: Mapping[str, tuple[str, bytes | Special | None]] = {
    **{kind.value: ("p", kind) for kind in Special},
    **{f"below {kind.value}": ("p/x/y", kind) for kind in Special},
    **{f"{kind.value}.toml": ("p.toml", kind) for kind in Special},
    "a name of 300 characters": ("x" * 300, None),
    "a name of 300 characters.toml": ("x" * 300 + ".toml", None),
    "a path of 5,000 characters": ("x/" * 2500, None),
    "a line break": ("a\nb.toml", b"x"),
    "an escape": ("a\x1bb.toml", b"x"),
    "not UTF-8": ("a\udcff.toml", b"x"),
    "below a file": ("run.toml/x", None),
    "a file with a slash": ("run.toml/", None),
    "a space": (" ", None),
    "below /proc": ("/proc/x", None),
    "a device": ("/dev/null", None),
    "below a device": ("/dev/null/x", None),
}
_KEYS = (
    "logging.log_dir",
    "data.path",
    "model.model",
    "backend.adapter_path",
    "backend.throttle_dir",
    "resume.from",
    "squeeze.output_path",
    "eval.path",
)


def places(_random: Random, _fixtures: Path) -> Iterator[Case]:
    """Each use of a path with each kind of place, and NUL in every key with a path."""
    campaign = toml({**FAKE, "campaign": {"seeds": "[1]", "max_steps": "1"}})
    both: Mapping[str, bytes | Special] = {"run.toml": toml(FAKE), "campaign.toml": campaign}
    for use, command in _COMMANDS.items():
        codes = (1,) if use == "output" else ()
        for name, (path, content) in _PLACES.items():
            free = path == " " or content in (Special.ABSENT, Special.DIRECTORY)
            if use == "campaign directory" and free:
                continue  # a campaign of several processes would start there
            files = both if content is None else {**both, path.split("/")[0]: content}
            words = tuple(path if word == "@" else word for word in command.split())
            yield Case("places", f"{use}: {name}", words, files, codes=codes, copied="adapter")
    for key in _KEYS:
        files = {"run.toml": toml(with_value(key, '"a\\u0000b"'))}
        named = (key.split(".")[1],)
        for words in (("run.toml",), ("explain", "run.toml")):
            yield Case("places", f"{key}: NUL", words, files, valid=False, named=named)
