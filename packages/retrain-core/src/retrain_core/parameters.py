"""Named parameters of advantages and transforms: which a function takes, and fixing them."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from retrain_core.names import unknown_name

Result = TypeVar("Result")


def parameters_of(function: Callable[..., object]) -> Mapping[str, object] | None:
    """Parameters after the first with their defaults; None if `**` takes any other name."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def summary_of(function: Callable[..., object]) -> str:
    """The first line of a function's docstring, without its full stop; empty if it has none."""
    text = inspect.getdoc(function) if inspect.isroutine(function) else None
    return (text or "").partition("\n")[0].rstrip(".")


def check_params(
    params: Mapping[str, object],
    built_in: Collection[str],
    reserved: Collection[str],
    own: Collection[Mapping[str, object] | None],
) -> None:
    """Raise ValueError for a name that nothing takes, and for a built-in one that is no number.

    Args:
      params: the parameters that were set.
      built_in: names of the parameters of built-in modes.
      reserved: names that are allowed too, which the caller has taken out of `params`.
      own: parameters of the chosen modes; None for one that takes any.
    """
    allowed = {*built_in, *reserved}.union(*(names for names in own if names is not None))
    for name, value in params.items():
        if name not in allowed and None not in own:
            raise unknown_name("parameter", name, allowed)
        if name in built_in:
            as_number(name, value)


def as_number(name: str, value: object) -> float:
    """`value` as a float, or a ValueError that names the parameter."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got `{value}`")
    return float(value)


def bind(
    function: Callable[..., Result] | str,
    parameters: Mapping[str, object] | None,
    params: Mapping[str, object],
) -> Callable[..., Result]:
    """`function` with its parameters fixed to those of `params` that it takes, or their defaults.

    Args:
      function: itself, or where to import it from, as `module:name`.
      parameters: the ones that can be set, with their defaults; None: it takes all of `params`.
      params: the parameters that were set.

    Raises:
      ValueError: a parameter without a default is not set, or is not one of the function's.
    """
    loaded: Callable[..., Result] = _load(function) if isinstance(function, str) else function
    if parameters is None:
        fixed = dict(params)
    else:
        given = {name: params.get(name, default) for name, default in parameters.items()}
        fixed = {k: v for k, v in given.items() if v is not inspect.Parameter.empty}
    _check_fixed(loaded, fixed)
    return partial(loaded, **fixed) if fixed else loaded


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _check_fixed(function: Callable[..., object], fixed: Mapping[str, object]) -> None:
    taken = parameters_of(function)
    if taken is None:
        return
    name = getattr(function, "__name__", repr(function))
    for parameter in fixed:
        if parameter not in taken:
            raise ValueError(f"`{name}` takes no parameter `{parameter}`, but its row lists it")
    for parameter, default in taken.items():
        if default is inspect.Parameter.empty and parameter not in fixed:
            raise ValueError(f"`{name}` needs the parameter `{parameter}`, which is not set")
