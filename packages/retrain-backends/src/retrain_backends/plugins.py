"""Finds the parts of a run by name: built-ins, entry points, and the user's own modules.

A name in the TOML file is looked up in this order:

1. the built-ins of its kind, in the table `KINDS`: strings, so that torch, datasets and others are
   imported only by the run that uses them;
2. entry points of installed packages in the group `retrain.plugins`, named `<kind>.<name>`
   (`reward.my_reward` can be written `my_reward` or `reward.my_reward`);
3. a dotted name, `my_module.my_object` or `my_package.my_module:my_object`, which may be in the
   working directory.

A backend, reward, detector, source or tracker is a class with a classmethod `from_config`, which
receives its part of the configuration, or any class or function that is called without arguments.
The others (advantage, transform, algorithm) are used as they are.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from retrain_backends.config import did_you_mean
from retrain_backends.config.section import PLUGIN_GROUP
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import NotAvailableError, PluginError, RetrainError, describe
from retrain_core import ADVANTAGE_MODES, TRANSFORM_MODES


@dataclass(frozen=True)
class Kind:
    """A kind of part: the key with its name, and the names that are allowed."""

    setting: str
    builtins: Mapping[str, str] = field(default_factory=dict)
    later: frozenset[str] = frozenset()  # valid names that are not available yet
    methods: tuple[str, ...] = ()  # required of a built part


KINDS: Mapping[str, Kind] = {
    "backend": Kind(
        "backend.backend",
        {
            "fake": "retrain_backends.fake:FakeBackend",
            "local": "retrain_backends.local.declaration:BACKEND",
            "tinker": "retrain_backends.tinker.declaration:BACKEND",
        },
        methods=(
            *("usage", "close", "sampler.sample", "trainer.train", "trainer.score"),
            *("trainer.save", "trainer.load", "trainer.export_adapter"),
        ),
    ),
    "engine": Kind(
        "inference.engine",
        {
            "max": "retrain_backends.engines.max:MaxDialect",
            "mlx": "retrain_backends.engines.mlx.dialect:MlxDialect",
            "openai": "retrain_backends.engines.openai:OpenaiDialect",
            "pytorch": "retrain_backends.local.sampler:PytorchSampler",
            "sglang": "retrain_backends.engines.sglang:SglangDialect",
            "vllm": "retrain_backends.engines.vllm:VllmDialect",
        },
    ),
    "reward": Kind(
        "reward.type",
        {
            "custom": "retrain_backends.rewards.background:BackgroundReward",
            "judge": "retrain_backends.rewards.background:BackgroundReward",
            "match": "retrain_backends.rewards.match:MatchReward",
            "math": "retrain_backends.rewards.background:BackgroundReward",
        },
        methods=("score",),
    ),
    "environment": Kind("environment.provider", later=frozenset({"verifiers"})),
    "detector": Kind(
        "planning.detector",
        {
            "regex": "retrain_backends.planning.regex:RegexDetector",
            "semantic": "retrain_backends.planning.semantic:SemanticDetector",
        },
        methods=("masks",),
    ),
    "source": Kind(
        "data.source",
        {
            "arithmetic": "retrain_backends.data.load:ArithmeticSource",
            "hf": "retrain_backends.data.hub:HubSource",
            "jsonl": "retrain_backends.data.jsonl:JsonlSource",
            "math": "retrain_backends.data.hendrycks:MathSource",
        },
        methods=("load",),
    ),
    "tracker": Kind(
        "logging.trackers",
        {"wandb": "retrain_backends.tracking.wandb:WandbTracker"},
        methods=("log", "close"),
    ),
    "advantage": Kind(
        "algorithm.advantage_mode",
        {mode: f"retrain_core:ADVANTAGE_MODES.{mode}" for mode in ADVANTAGE_MODES},
    ),
    "transform": Kind(
        "algorithm.transform_mode",
        {mode: f"retrain_core:TRANSFORM_MODES.{mode}" for mode in TRANSFORM_MODES},
    ),
    "algorithm": Kind("algorithm.algorithm_mode"),
}


def names(kind: str) -> list[str]:
    """All short names of a kind that can be used now: built-ins and installed plugins."""
    return sorted({*KINDS[kind].builtins, *_installed(kind)})


def check_available(kind: str, name: str) -> None:
    """Refuse a valid name that is not available in this version; imports nothing.

    Raises:
      NotAvailableError: the name belongs to a part of a later version.
    """
    known = KINDS[kind]
    if name in known.later:
        raise NotAvailableError(
            f"{known.setting}: `{name}` is not available in this version"
            f" (available: {', '.join(f'`{n}`' for n in names(kind)) or 'none'})"
        )


def resolve(kind: str, name: str) -> Any:
    """The class or function with a name.

    Args:
      kind: a key of `KINDS`.
      name: a built-in's name, an entry point's, or a dotted name.

    Raises:
      NotAvailableError: the name belongs to a part of a later version.
      PluginError: the name is unknown, its module cannot be imported, or the object is unsuitable.
    """
    check_available(kind, name)
    known = KINDS[kind]
    where = f"{known.setting}: `{name}`"
    short = name.removeprefix(f"{kind}.")
    # Entry points only if needed, because that reads the metadata of all installed packages.
    if name in known.builtins:
        part = load_object(known.builtins[name], where)
    elif ":" not in name and (point := _installed(kind).get(short)):
        part = load_object(f"{point.module}:{point.attr}", where)
    elif "." in name or ":" in name:
        _make_working_directory_importable()
        part = load_object(name, where)
    else:
        usable = names(kind)
        raise PluginError(
            f"{known.setting}: there is no {kind} `{name}`; known: {', '.join(usable) or 'none'},"
            f" or a plugin as `my_module.my_object`{did_you_mean(name, usable, '`{}`')}"
        )
    _check_kind(kind, name, part)
    return part


def build(kind: str, name: str, *arguments: object) -> Any:
    """Build a part: `from_config(*arguments)` of the resolved object, else a call of it.

    Raises:
      NotAvailableError, PluginError: as `resolve`; also if a plugin's constructor fails, or the
        built object lacks a method.
    """
    factory = resolve(kind, name)
    # A border: the constructor may be the user's own.
    try:
        part = factory.from_config(*arguments) if hasattr(factory, "from_config") else factory()
    except Exception as error:
        if isinstance(error, RetrainError) or name in KINDS[kind].builtins:
            raise
        raise PluginError(
            f"{KINDS[kind].setting}: building `{name}` failed: {describe(error)}"
        ) from error
    _check_methods(kind, name, part)
    return part


def _installed(kind: str) -> dict[str, EntryPoint]:
    """Entry points of a kind by short name."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=PLUGIN_GROUP):
        point_kind, _, name = point.name.partition(".")
        if point_kind != kind:
            continue
        if name in points and points[name].value != point.value:
            raise PluginError(
                f"two installed packages offer the {kind} `{name}`: `{points[name].value}` and"
                f" `{point.value}`; uninstall one, or write one of these dotted names instead"
            )
        points[name] = point
    return points


def _make_working_directory_importable() -> None:
    # Last in the path, so that a file with the name of a library does not shadow it.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()


def _check_kind(kind: str, name: str, part: object) -> None:
    known = KINDS[kind]
    if not callable(part) and not hasattr(part, "from_config"):
        expected = "class or a function that makes one" if known.methods else "function"
        raise PluginError(
            f"{known.setting}: `{name}` is a {type(part).__name__}; a {expected} is expected"
        )
    if isinstance(part, type):
        _check_methods(kind, name, part)


def _check_methods(kind: str, name: str, part: object) -> None:
    methods = [
        method
        for method in KINDS[kind].methods
        if "." not in method or not isinstance(part, type)  # attributes of instances: once built
    ]
    lacking = [
        f"`{method}`"
        for method in methods
        if not callable(
            reduce(lambda value, name: getattr(value, name, None), method.split("."), part)
        )
    ]
    if lacking:
        raise PluginError(
            f"{KINDS[kind].setting}: `{name}` is no {kind}: it lacks {', '.join(lacking)}"
        )
