"""Hostile configuration files of runs."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

from hostile_input.case import Case, explained
from hostile_input.configuration_files import (
    ACCEPTED,
    FAKE,
    VALUES,
    Literals,
    nested,
    toml,
    with_value,
)
from hostile_input.damage import changed_bytes, whole_files
from retrain_backends.config import RunConfig, dump_config, sections
from retrain_backends.config.describe import FieldDoc

_DEPTHS = (2, 50, 200, 400, 900, 5000)
# What a message about a wrong type may name, if the whole file is at fault.
_WHOLE_FILE = ("line", "nested", "digits")
# Tables and keys whose values make a run write elsewhere, or need a service.
_NOT_STARTED = (
    *("path", "dir", "model", "backend", "adapter", "campaign", "squeeze", "url", "max_steps"),
    *("wandb", "trackers", "environment", "resume", "custom"),
)


def damaged_files(random: Random, _fixtures: Path) -> Iterator[Case]:
    """Damaged TOML files: a short one, and one with every key."""
    whole = RunConfig.model_validate({"backend": {"backend": "fake"}, "training": {"max_steps": 2}})
    for content in (toml(FAKE), dump_config(whole).encode()):
        for _ in range(400):
            yield explained("files", *changed_bytes(content, random))
        for name, damaged in whole_files(content, random).items():
            right = name in ("BOM", "CRLF") and content == toml(FAKE)
            yield explained("files", name, damaged, valid=right or None)


def values_of_keys(random: Random, _fixtures: Path) -> Iterator[Case]:
    """Every key with values of every type."""
    for section in sections():
        base = FAKE
        if section.repeated:
            required = {"advantage_mode": '"grpo"', "transform_mode": '"none"'}
            base = {**FAKE, "campaign": {"seeds": "[1]"}, section.name: required}
        for doc in section.fields:
            for kind, literals in VALUES.items():
                for literal in random.sample(literals, min(4, len(literals))):
                    yield _value_of_key(doc, kind, literal, base)


def _value_of_key(doc: FieldDoc, kind: str, literal: str, base: Literals) -> Case:
    content = toml(with_value(doc.path, literal, base))
    if doc.kind not in ACCEPTED or kind in ACCEPTED[doc.kind]:
        return explained("keys", f"{doc.path} = {literal}", content)
    named = (doc.key, *_WHOLE_FILE)
    return explained("keys", f"{doc.path} = {literal}", content, valid=False, named=named)


def tables(random: Random, _fixtures: Path) -> Iterator[Case]:
    """Tables that are unknown, repeated, nested, or of another type."""
    text = toml(FAKE).decode()
    names = [section.name for section in sections() if not section.repeated]
    forms = (
        *("[{0}]", "[[{0}]]", "[{0}]\n[{0}]", "[{0}]\nx = 1", "[{0}.x]\ny = 1", "[[{0}.x]]"),
        *("[{0}]\n'' = 1", '[{0}]\n"a\\nb" = 1', '[{0}]\n"\\u0000" = 1', "[{0}]\né.b = 1"),
    )
    literals = [literal for values in VALUES.values() for literal in values]
    for name in [*names, "x", "a.b.c", "training.x", "campaign.conditions", '""', '"a\\u0000"']:
        for form in forms:
            added = form.format(name)
            yield explained("tables", added, f"{text}{added}\n".encode())
        for literal in random.sample(literals, 12):
            yield explained("tables", f"{name} = {literal}", f"{name} = {literal}\n{text}".encode())
    free = ("a", "backend.options", "environment.args", "campaign.executor_options", "training.lr")
    for path in free:
        for depth in _DEPTHS:
            for name, content in _nested_tables(path, depth, text):
                yield explained("tables", name, content)


def _nested_tables(path: str, depth: int, text: str) -> Iterator[tuple[str, bytes]]:
    dots = "a." * depth
    lines = {
        "dotted": f"{path}.{dots}a = 1",
        "inline": f"{path} = {nested('{a = ', '}', depth)}",
        "array": f"{path} = {nested('[', ']', depth)}",
        "long": f"{path}.{'a' * depth} = 1",
    }
    for form, line in lines.items():
        yield f"{path}, {form} of {depth}", f"{line}\n{text}".encode()
    yield f"{path}, header of {depth}", f"{text}[{path}.{dots}a]\n".encode()


def starts(random: Random, _fixtures: Path) -> Iterator[Case]:
    """Runs that start, with extreme values that the configuration may allow."""
    fields = [
        doc
        for section in sections()
        for doc in section.fields
        if not section.repeated and not any(word in doc.path for word in _NOT_STARTED)
    ]
    for _ in range(250):
        literals, names = FAKE, []
        for doc in random.sample(fields, 2):
            kinds = sorted(ACCEPTED.get(doc.kind, {"string"}))
            choices = [f'"{name}"' for name in doc.names]
            choices = choices or [literal for kind in kinds for literal in VALUES[kind]]
            literal = random.choice(choices)
            literals = with_value(doc.path, literal, literals)
            names.append(f"{doc.path} = {literal[:60]}")
        content = toml(literals)
        name = ", ".join(names)
        yield Case("starts", name, ("run.toml",), {"run.toml": content}, codes=(1,))
