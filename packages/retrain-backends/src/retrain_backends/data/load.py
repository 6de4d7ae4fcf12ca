"""Examples from the configured source, checked before a run begins."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self, overload

from retrain_backends.config import DataConfig
from retrain_backends.data.arithmetic import ArithmeticExamples
from retrain_backends.data.rows import text_problem
from retrain_backends.data.stream import is_endless
from retrain_backends.errors import DataError, RetrainError, describe
from retrain_backends.hub_access import prefer_cache_if_unreachable
from retrain_backends.plugins import build
from retrain_backends.types import Example

_HUB_ID = r"[\w.-]{1,100}(/[\w.-]{1,100})?(:.{1,100})?"


def load_examples(config: DataConfig, seed: int, max_examples: int = 0) -> Sequence[Example]:
    """All examples of the configured source, in its own order.

    Args:
      config: the `[data]` table.
      seed: the run's seed; only sources that generate their examples use it.
      max_examples: keep the first so many; 0 keeps all. It ends an endless source.

    Returns:
      At least one example; questions and references are texts and not blank.

    Raises:
      DataError: no data, no rows, a row without question or reference, or a source that fails or
        returns something else.
      PluginError: there is no such source.
    """
    if _is_on_the_hub(config):
        prefer_cache_if_unreachable()
    source = build("source", config.source, config, seed)
    # A border: the source may be the user's own, and may call `sys.exit`.
    try:
        return _checked(source.load(), config, max_examples)
    except RetrainError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"data.source: `{config.source}` failed: {describe(error)}") from error


def _is_on_the_hub(config: DataConfig) -> bool:
    if config.source == "math":
        return not config.path
    is_id = config.source == "hf" and re.fullmatch(_HUB_ID, config.path)
    return bool(is_id) and not Path(config.path).exists()


def _checked(
    examples: Sequence[Example], config: DataConfig, max_examples: int
) -> Sequence[Example]:
    if not hasattr(examples, "__getitem__"):
        raise DataError(
            f"data.source: `{config.source}` returns a {type(examples).__name__};"
            " a list or another sequence is expected: return list(...) from `load`"
        )
    if is_endless(examples):
        return FirstExamples(examples, max_examples) if max_examples else examples
    if max_examples:
        examples = examples[:max_examples]
    _check(examples, config)
    return examples


def _check(examples: Sequence[Example], config: DataConfig) -> None:
    place = f"data.path `{config.path}`" if config.path else f"data.source `{config.source}`"
    if not len(examples):
        raise DataError(f"{place} has no rows (split `{config.split}`)")
    for i, example in enumerate(examples):
        if not isinstance(example, Example):
            raise DataError(
                f"{place}: example {i} is a {type(example).__name__};"
                " a source returns retrain_backends.types.Example"
            )
        for name, text in (("question", example.question), ("reference", example.reference)):
            if wrong := text_problem(text):
                raise DataError(f"{place}: the {name} of example {i} (counted from 0) {wrong}")


class FirstExamples(Sequence[Example]):
    """The first examples of an endless source, generated on access."""

    def __init__(self, endless: Sequence[Example], number: int) -> None:
        self._endless = endless
        self._number = number

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Example `index`, or the list of a slice."""
        if isinstance(index, slice):
            return [self._endless[i] for i in range(self._number)[index]]
        return self._endless[range(self._number)[index]]


class ArithmeticSource:
    """The endless generator of `data/arithmetic.py` as a source."""

    def __init__(self, seed: int, split: str) -> None:
        self._seed = seed
        self._split = split

    @classmethod
    def from_config(cls, config: DataConfig, seed: int) -> Self:
        """Generate from the run's seed."""
        return cls(seed, config.split)

    def load(self) -> ArithmeticExamples:
        """All examples, generated on access."""
        return ArithmeticExamples(self._seed, self._split)
