"""Named parameters of advantage functions and transforms: which exist, and handing them over."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from retrain_core.names import unknown_name

Result = TypeVar("Result")


def keywords(function: Callable[..., object]) -> tuple[frozenset[str], bool]:
    """Names of the parameters after the first, and whether `**` takes any other name."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = frozenset(
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    )
    return named, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def check_params(
    params: Mapping[str, object],
    built_in: frozenset[str],
    reserved: frozenset[str],
    functions: Iterable[Callable[..., object]],
) -> None:
    """Raise ValueError for a name that nobody takes, and for a built-in one that is no number.

    `reserved` names are parameters too, which the caller has taken out of `params` already.
    """
    allowed = set(built_in | reserved)
    open_ended = False
    for function in functions:
        named, takes_any = keywords(function)
        allowed |= named
        open_ended |= takes_any
    for name, value in params.items():
        if name not in allowed and not open_ended:
            raise unknown_name("parameter", name, allowed)
        if name in built_in:
            as_number(name, value)


def as_number(name: str, value: object) -> float:
    """`value` as a float, or a ValueError that names the parameter."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got `{value}`")
    return float(value)


def bind(function: Callable[..., Result], params: Mapping[str, object]) -> Callable[..., Result]:
    """`function` with those of `params` fixed that it takes."""
    named, takes_any = keywords(function)
    taken = {name: value for name, value in params.items() if takes_any or name in named}
    return partial(function, **taken) if taken else function
