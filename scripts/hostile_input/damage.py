"""Random damages of texts, of bytes and of JSON."""

import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

# JSON values that replace others.
_JSON = (
    *("null", "true", "0", "-1", "1.5", "1e999", "NaN", "Infinity", "[]", "{}"),
    *('""', '"x"', '"\\u0000"', '"\\ud800"', '"/"', '"../x"', '"' + "x" * 100_000 + '"'),
    *("[" * 3000 + "]" * 3000, "9" * 400, "9" * 5000),
)
_CONTROL = (b"\x1b", b"\r", b"\x7f", b"\x0b")
_SYNTAX = (b"[", b"]", b'"', b"'''", b"{", b"=", b".", b"#", b"\\", b",")
_INVALID = (b"\xff", b"\xc3", b"\xed\xa0\x80")


def changed_bytes(content: bytes, random: Random) -> tuple[str, bytes]:
    """The content with one random damage, and what that is."""
    at = random.randrange(len(content) + 1)
    to = min(len(content), at + random.randint(1, 40))
    lines = content.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    before, after = content[:at], content[at:]
    doubled = [*lines[: one + 1], *lines[one:]]
    moved = [*lines[:one], lines[other], *lines[one:]]
    damage = {
        "flipped bit": before[:-1]
        + bytes(b ^ 1 << random.randrange(8) for b in before[-1:])
        + after,
        "changed byte": before + random.randbytes(1) + after[1:],
        "truncated": before,
        "cut out": before + content[to:],
        "inserted bytes": before + random.randbytes(to - at) + after,
        "NUL": before + b"\0" + after,
        "doubled line": b"\n".join(doubled),
        "moved line": b"\n".join(moved),
        "doubled": content + content,
        "control character": before + random.choice(_CONTROL) + after,
        "syntax": before + random.choice(_SYNTAX) + after,
        "invalid UTF-8": before + random.choice(_INVALID) + after,
    }
    name = random.choice(list(damage))
    return f"{name} at {at}", damage[name]


def whole_files(content: bytes, random: Random) -> Mapping[str, bytes]:
    """Damages of a text file as a whole, by what they are."""
    text = content.decode()
    return {
        "empty": b"",
        "BOM": b"\xef\xbb\xbf" + content,
        "two BOMs": b"\xef\xbb\xbf" * 2 + content,
        "CRLF": content.replace(b"\n", b"\r\n"),
        "CR": content.replace(b"\n", b"\r"),
        "UTF-16": text.encode("utf-16"),
        "UTF-32": text.encode("utf-32"),
        "Latin-1": b"# \xe9\n" + content,
        "NULs": b"\0" * 4096,
        "spaces": b" " * 100_000,
        "line of a megabyte": b"x" * 2**20,
        "random": random.randbytes(4096),
        "gzip": b"\x1f\x8b\x08\x00" + random.randbytes(100),
    }


def replaced_value(content: bytes, random: Random) -> tuple[str, bytes]:
    """A JSON text with one value at any depth replaced by a hostile one, or a key removed."""
    document = json.loads(content)
    places = [*_places(document)]
    container, key = random.choice(places)
    if random.random() < 0.2:
        del container[key]
        return f"without {key}", json.dumps(document).encode()
    value = random.choice(_JSON)
    container[key] = "@@@"
    return f"{key} = {value[:30]}", json.dumps(document).replace('"@@@"', value).encode()


def _places(document: Any) -> Iterator[tuple[Any, str | int]]:
    """Each dictionary and list at any depth, with each of its keys."""
    if not isinstance(document, dict | list):
        return
    for key in [*document] if isinstance(document, dict) else range(len(document)):
        yield document, key
        yield from _places(document[key])


def damaged(content: bytes, random: Random, *, lines: bool = False) -> tuple[str, bytes]:
    """A file with a damage of any kind; `lines` is for one JSON object a line."""
    if random.random() < 0.5:
        return changed_bytes(content, random)
    try:
        if not lines:
            return replaced_value(content, random)
        rows = content.splitlines()
        at = random.randrange(len(rows))
        name, rows[at] = replaced_value(rows[at], random)
        return f"line {at}: {name}", b"\n".join(rows) + b"\n"
    except (ValueError, IndexError):
        return changed_bytes(content, random)
