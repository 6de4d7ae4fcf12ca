"""Damaged adapters."""

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

from hostile_input.case import Case, Special
from hostile_input.damage import changed_bytes, damaged, replaced_value, whole_files

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_COMMANDS = (
    ("squeeze", "adapter"),
    ("squeeze", "adapter", "--json"),
    ("squeeze", "adapter", "--output-path", "small", "--compress-to", "2"),
    ("squeeze", "adapter", "--output-path", "small", "--per-module"),
)


def adapters(random: Random, fixtures: Path) -> Iterator[Case]:
    """Adapters whose weights or configuration are damaged."""
    weights, config = ((fixtures / "adapter" / name).read_bytes() for name in (_WEIGHTS, _CONFIG))
    damages: list[tuple[str, str, bytes]] = []
    for _ in range(200):
        damages.append((_WEIGHTS, *changed_bytes(weights, random)))
        damages.append((_WEIGHTS, *_changed_header(weights, random)))
        damages.append((_CONFIG, *damaged(config, random)))
    damages += [(_CONFIG, *damage) for damage in whole_files(config, random).items()]
    damages += [(_WEIGHTS, *damage) for damage in whole_files(b"x" * 100, random).items()]
    for name, damage, content in damages:
        yield _case(name, damage, content, random.choice(_COMMANDS))
    for name in (_WEIGHTS, _CONFIG):
        for kind in Special:
            yield _case(name, kind.value, kind, _COMMANDS[0], valid=False)
    for value in (np.nan, np.inf, -np.inf, 3e38, 1e-45, 0.0):
        content = weights[:-64] + np.float32(value).tobytes() + weights[-60:]
        valid = None if np.isfinite(value) else False
        yield _case(_WEIGHTS, f"a {value}", content, _COMMANDS[0], valid=valid)


def _case(
    name: str,
    damage: str,
    content: bytes | Special,
    command: tuple[str, ...],
    *,
    valid: bool | None = None,
) -> Case:
    files = {f"adapter/{name}": content}
    return Case("adapters", f"{name}: {damage}", command, files, valid=valid, copied="adapter")


def _changed_header(content: bytes, random: Random) -> tuple[str, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    damage, header = replaced_value(content[8 : 8 + length], random)
    size = random.choice((len(header), len(header), len(header), 0, 2**63, random.randrange(2**40)))
    changed = struct.pack("<Q", size) + header + content[8 + length :]
    return f"header with {damage}, length {size}", changed
