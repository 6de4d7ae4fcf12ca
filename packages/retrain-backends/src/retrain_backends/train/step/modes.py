"""The row of an advantage or transform mode: one of `retrain_core`'s, or a plugin's."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from retrain_backends.dotted_names import load_object
from retrain_backends.errors import PluginError, RetrainError, describe
from retrain_backends.plugins import KINDS, resolve
from retrain_core import AdvantageSpec, TransformSpec

Row = TypeVar("Row", AdvantageSpec, TransformSpec)


def advantage_row(name: str) -> AdvantageSpec:
    """The row of an advantage mode.

    A plugin is a row, a factory (a function without required arguments that returns a row), or any
    other function, for which a row is made.

    Raises:
      PluginError: the plugin is none of these.
    """
    return _row("advantage", name, AdvantageSpec)


def transform_row(name: str) -> TransformSpec:
    """The row of a transform mode; plugins and errors as in `advantage_row`."""
    return _row("transform", name, TransformSpec)


def _row(kind: str, name: str, row_type: type[Row]) -> Row:
    part = resolve(kind, name)
    if name in KINDS[kind].builtins:
        return part
    where = f"{KINDS[kind].setting}: `{name}`"
    # A border: the function may be the user's own.
    try:
        if isinstance(part, AdvantageSpec | TransformSpec):
            row: object = part
        else:
            row = part() if _is_factory(part) else row_type.from_function(part)
    except RetrainError:
        raise
    except Exception as error:
        raise PluginError(f"{where} cannot be used: {describe(error)}") from error
    if not isinstance(row, row_type):
        problem = "is" if row is part else "can be called without arguments, but returns"
        raise PluginError(
            f"{where} {problem} `{type(row).__name__}`; the {kind} must be a function of one "
            f"argument, a row `{row_type.__name__}(...)`, or a function without arguments that "
            "returns such a row"
        )
    _check(row.function, row.parameters, f"{where}: {row_type.__name__}")
    return row


def _is_factory(function: Callable[..., object]) -> bool:
    """Whether a function has no required arguments; one that takes `*args` is no factory."""
    parameters = inspect.signature(function).parameters.values()
    return not any(
        parameter.kind is parameter.VAR_POSITIONAL
        or (parameter.kind is not parameter.VAR_KEYWORD and parameter.default is parameter.empty)
        for parameter in parameters
    )


def _check(function: Any, parameters: Any, where: str) -> None:
    if isinstance(function, str):
        function = load_object(function, f"{where}.function `{function}`")
    if not callable(function):
        raise PluginError(f"{where}.function must be a function, not `{function}`")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise PluginError(
            f"{where}.parameters must be a table of names and defaults, not `{parameters}`"
        )
