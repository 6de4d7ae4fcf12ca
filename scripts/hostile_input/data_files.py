"""Damaged data files and models."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from hostile_input.case import Case, Special, explained
from hostile_input.configuration_files import toml, with_value
from hostile_input.damage import damaged, whole_files
from hostile_input.fixtures import ROWS

_AS_JSON = json.dumps([json.loads(row) for row in ROWS.splitlines()])
_AS_CSV = "question,answer\n" + "".join(f"{n} + 1,{n + 1}\n" for n in range(20))
# Name of the file, its source, its content, and how many random damages to try.
_FORMATS: tuple[tuple[str, str, bytes, int], ...] = (
    ("rows.jsonl", "jsonl", ROWS.encode(), 150),
    ("hub.jsonl", "hf", ROWS.encode(), 25),
    ("hub.csv", "hf", _AS_CSV.encode(), 25),
    ("hub.json", "hf", _AS_JSON.encode(), 25),
    ("hub.parquet", "hf", b"PAR1 no table PAR1", 25),
)
_ROWS: Mapping[str, bytes] = {
    "one value a line": b"1\n2\n",
    "a list a line": b"[1]\n",
    "only questions": b'{"question": 1}\n',
    "a line of a megabyte": b'{"question": "' + b"x" * 2**20 + b'", "answer": "1"}\n',
    "nested": b'{"question": ' + b"[" * 100_000 + b"]" * 100_000 + b', "answer": 1}\n',
    "mixed types": b'{"question": "a", "answer": 1}\n{"question": [1], "answer": {}}\n',
    "a huge integer": b'{"question": "a", "answer": ' + b"9" * 5000 + b"}\n",
    "half a surrogate pair": b'{"question": "\\ud800", "answer": "1"}\n',
}
_MODELS = (
    *("x", "a/b", "a/b/c", "../model", "model", ".", "builtin:x", "builtin:", "é/é", "a--b/c..d"),
    *("a:b", "hf://a", "C:x", "-"),
    *("x" * 300, "a/" + "b" * 5000, "a b", "\\u0000", "a\\nb", "https://huggingface.co/a/b"),
)


def data(random: Random, _fixtures: Path) -> Iterator[Case]:
    """Data files of every format."""
    for name, source, content, number in _FORMATS:
        base = with_value("data.path", f'"{name}"', with_value("data.source", f'"{source}"'))
        damages = [*whole_files(content, random).items(), *_ROWS.items()]
        damages += [damaged(content, random, lines=name.endswith("l")) for _ in range(number)]
        for damage, changed in damages:
            yield explained("data", f"{name}: {damage}", toml(base), {name: changed})
        for kind in Special:
            what = f"{name}: {kind.value}"
            yield explained("data", what, toml(base), {name: kind}, valid=False)
        for field in ("a", "é", "question ", "__class__"):
            wrong = toml(with_value("data.question_field", json.dumps(field), base))
            what = f"{name}: the field {field}"
            yield explained("data", what, wrong, {name: content}, valid=False)


def models(random: Random, fixtures: Path) -> Iterator[Case]:
    """Names of models and data sets, and directories whose files are damaged."""
    for name in _MODELS:
        of_hub = with_value("data.source", '"hf"', with_value("data.path", f'"{name}"'))
        yield explained("models", name, toml(with_value("model.model", f'"{name}"')))
        yield explained("models", f"data set {name}", toml(of_hub))
    base = toml(with_value("model.model", '"model"'))
    for path in sorted((fixtures / "model").iterdir()):
        if path.suffix == ".safetensors":
            continue
        content = path.read_bytes()
        damages: list[tuple[str, bytes | Special]] = [(kind.value, kind) for kind in Special]
        damages += [damaged(content, random) for _ in range(60)]
        # As a template, a megabyte is a valid prompt that takes long to encode.
        whole = {**whole_files(content, random), "line of a megabyte": b"x" * 1000}
        damages += whole.items()
        for damage, changed in damages:
            files = {f"model/{path.name}": changed}
            yield explained("models", f"{path.name}: {damage}", base, files, copied="model")
