"""The user's function as a reward, inside a worker process."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter, Signature
from typing import Any

from retrain_backends.rewards.worker import Item, NoVerdictError

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_REST = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def load_function(module: str, function: str) -> Callable[[Item], object]:
    """A function that scores an item by calling the user's.

    Raises:
      LookupError: the module has no such function.
      TypeError: it is not callable.
    """
    found = getattr(import_module(module), function, None)
    if found is None:
        raise LookupError(f"the module `{module}` has no `{function}`")
    if not callable(found):
        raise TypeError(f"`{module}.{function}` is a {type(found).__name__}, not a function")
    signature = _signature(found)
    runner = asyncio.Runner()  # one loop for all calls, since the user's clients are bound to it

    def judge(item: Item) -> object:
        args, kwargs = arguments(signature, item)
        result = found(*args, **kwargs)
        return runner.run(_awaited(result)) if inspect.isawaitable(result) else result

    return judge


def arguments(signature: Signature | None, item: Item) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call of the user's function.

    By name if every parameter without a default is `response`, `reference`, `question`,
    `messages`, `metadata` or a key of the metadata; else `(response, reference)`, if it takes two
    arguments.

    Args:
      signature: of the function; None if it has none, as some built-in functions.
      item: one completion and its example.

    Raises:
      NoVerdictError: the function takes something that the example does not have.
    """
    fields: Mapping[str, Any] = {**item["metadata"], **item}
    pair = [item["response"], item["reference"]]
    if signature is None:
        return pair, {}
    parameters = signature.parameters.values()
    any_name = any(p.kind is Parameter.VAR_KEYWORD for p in parameters)
    names = [p.name for p in parameters if p.kind in _NAMED]
    required = [p for p in parameters if p.default is p.empty and p.kind not in _REST]
    missing = [p.name for p in required if p.name not in fields or p.name not in names]
    by_name = {k: v for k, v in fields.items() if any_name or k in names}
    if by_name and not missing:
        return [], by_name
    try:
        signature.bind(*pair)
    except TypeError:
        raise NoVerdictError(
            f"the function asks for {', '.join(f'`{name}`' for name in missing) or signature}, but"
            f" there are {', '.join(f'`{name}`' for name in fields)}"
        ) from None
    return pair, {}


def _signature(function: Callable[..., Any]) -> Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return None


async def _awaited(result: Any) -> object:
    return await result
