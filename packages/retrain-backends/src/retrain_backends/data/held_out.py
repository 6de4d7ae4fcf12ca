"""The held-out questions of a run's evaluations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrain_backends.config import DataConfig, EvalConfig
from retrain_backends.data.load import load_examples
from retrain_backends.data.stream import is_endless
from retrain_backends.errors import ConfigError, DataError
from retrain_backends.randomness import Purpose, stream
from retrain_backends.types import Example

# Of the choice of questions and of the sampled answers. It is not the run's seed, so that all seeds
# and rules of a study are evaluated on the same questions with the same random numbers.
EVALUATION_SEED = 0

_WITH_TEST_SPLIT = ("math", "arithmetic")  # the sources with a split for evaluation


def held_out_data(data: DataConfig, evaluation: EvalConfig) -> DataConfig:
    """The source of the held-out questions, as a `[data]` table.

    Raises:
      ConfigError: no source is set, or it is that of training.
    """
    source = evaluation.source or data.source
    own = source == data.source
    named = evaluation.path or evaluation.split
    if source not in _WITH_TEST_SPLIT and not named:
        raise ConfigError(
            f"[eval]: the source `{source}` has no held-out questions of its own; name them "
            'with eval.path (as "test.jsonl"), or with eval.split if the data set has such a split'
        )
    fields = {"question_field": data.question_field, "answer_field": data.answer_field}
    held_out = data.model_copy(
        update={
            "source": source,
            "path": evaluation.path or (data.path if own else ""),
            "split": evaluation.split or "test",
            **(fields if own else dict.fromkeys(fields, "")),
        }
    )
    if _is_same(data, held_out):
        raise ConfigError(
            f"[eval]: its questions are those of [data] (source `{source}`, path "
            f"`{held_out.path}`, split `{held_out.split}`), which are trained on; "
            "set eval.path or eval.split to others"
        )
    return held_out


def load_held_out(data: DataConfig, evaluation: EvalConfig) -> list[tuple[int, Example]]:
    """The questions of an evaluation, each with its number in the source.

    If the source has more than `max_examples`, so many are drawn from all of it at random, the same
    ones each time, in the source's order, since its first ones may be all of one kind.

    Raises:
      ConfigError: as `held_out_data`; also for all questions of an endless source.
      DataError: nothing to load, no rows, or a row without question or reference.
    """
    config = held_out_data(data, evaluation)
    try:
        examples = load_examples(config, EVALUATION_SEED)
    except DataError as error:
        raise DataError(f"the questions of [eval]: {error}") from error
    return [(int(index), examples[index]) for index in _chosen(examples, evaluation.max_examples)]


def _chosen(examples: Sequence[Example], wanted: int) -> Sequence[int]:
    if is_endless(examples):
        if not wanted:
            raise ConfigError(
                "eval.max_examples: `0` means all questions, and this source is endless; set a "
                "number of questions"
            )
        return range(wanted)
    if not wanted or wanted >= len(examples):
        return range(len(examples))
    order = stream(EVALUATION_SEED, Purpose.ORDER).permutation(len(examples))
    return np.sort(order[:wanted]).tolist()


def _is_same(one: DataConfig, other: DataConfig) -> bool:
    """Whether both read the same questions; a file is one split, whatever the split is called."""
    file = _file(one)
    if file is not None and file == _file(other):
        return True
    return (one.source, one.path, one.split) == (other.source, other.path, other.split)


def _file(data: DataConfig) -> Path | None:
    """The file that is read, if it is a single one; `jsonl` reads one of a directory too."""
    path = Path(data.path).expanduser()
    files = (path, path / f"{data.split}.jsonl")
    return next((file.resolve() for file in files if data.path and file.is_file()), None)
