"""Configuration files as text, and the values that are tried in them."""

from collections.abc import Mapping
from typing import TypeAlias

Literals: TypeAlias = dict[str, dict[str, str]]
"""TOML values by table and key."""

FAKE: Literals = {
    "model": {"model": '"builtin:tiny-arithmetic"'},
    "backend": {"backend": '"fake"'},
    "data": {"source": '"arithmetic"', "prompt_template": '"{question}"'},
    "training": {"max_steps": "2", "batch_size": "2", "group_size": "4", "max_tokens": "8"},
    "sepa": {"steps": "1", "delay_steps": "0"},
}
_LONG = "x" * 100_000


def nested(opening: str, closing: str, depth: int) -> str:
    """A 1 inside so many brackets."""
    return opening * depth + "1" + closing * depth


# TOML values by kind.
VALUES: Mapping[str, tuple[str, ...]] = {
    "integer": (
        *("0", "-1", "1", "2147483648", "9223372036854775807", "9223372036854775808"),
        *("-9223372036854775809", "1" + "0" * 400, "1" + "0" * 5000, "0xffffffffffffffffffffff"),
    ),
    "number": (
        *("nan", "-nan", "inf", "-inf", "0.5", "-0.5", "1e308", "-1e308", "1e999", "5e-324"),
        "-0.0",
    ),
    "string": (
        *('""', '" "', '"x"', '"true"', '"1"', '"nan"', '"a\\u0000b"', '"a\\nb"', '"a\\rb"'),
        *('"\\u001b[31m"', f'"{_LONG}"', '"é\\U0001F600"', '"\\u202e"', '"\\uFFFE"', '"~"'),
        *('"../../x"', '"a/b/c/d"', '"/"', '"%s{}{0}$HOME"', '"{question}"', "'[1,'", "'{\"a\":'"),
        *('"http://localhost:secret@h/"', '"http://[::1"', '"http://"', '"file:///etc/passwd"'),
        *('"os.system"', '"os:system"', '"sys.exit"', '"hostile_module.x"', '"a..b"', '"."'),
        *("'{\"a\": NaN}'", '\'{"a": "\\u0000"}\'', "'" + nested("[", "]", 20_000) + "'"),
        "'" + '{"a":' * 3000 + "1" + "}" * 3000 + "'",
    ),
    "boolean": ("true", "false"),
    "array": (
        *("[]", "[1]", "[-1]", '["x"]', '[1, "a"]', "[[1]]", "[1, 1]", "[1.5]", "[true]", "[{}]"),
        *(nested("[", "]", 150), "[" + "1," * 20_000 + "]", "[9223372036854775808]"),
    ),
    "table": ("{}", "{a = 1}", '{"" = 1}', nested("{a = ", "}", 100), '{"a\\u0000" = 1}'),
    "date": ("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"),
}
ACCEPTED = {
    "integer": {"integer"},
    "number": {"integer", "number"},
    "string": {"string"},
    "boolean": {"boolean"},
    "array": {"array"},
}


def toml(literals: Literals) -> bytes:
    """The tables as a file; names with a dot are tables of a list."""
    lines: list[str] = []
    for name, table in literals.items():
        lines.append(f"[[{name}]]" if name == "campaign.conditions" else f"[{name}]")
        lines += [f"{key} = {value}" for key, value in table.items()]
    return ("\n".join(lines) + "\n").encode()


def with_value(path: str, literal: str, base: Literals = FAKE) -> Literals:
    """The tables with one more key."""
    section, _, key = path.rpartition(".")
    return {**base, section: {**base.get(section, {}), key: literal}}
