"""The questions that a run is judged on and never trains on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrain_backends.config import DataConfig, EvalConfig
from retrain_backends.data.load import load_examples
from retrain_backends.data.stream import is_endless
from retrain_backends.errors import ConfigError, DataError
from retrain_backends.randomness import Purpose, stream
from retrain_backends.types import Example

# Of the choice of questions and of the answers sampled to them. It is not the run's seed, so that
# all seeds and rules of a study are judged on the same questions with the same luck.
EVALUATION_SEED = 0

_WITH_TEST_SPLIT = ("math", "arithmetic")  # the sources that keep questions from training


def held_out_data(data: DataConfig, evaluation: EvalConfig) -> DataConfig:
    """Where the held-out questions are, as a `[data]` table.

    Raises:
      ConfigError: nothing says which questions they are, or they are those that are trained on.
    """
    source = evaluation.source or data.source
    own = source == data.source
    named = evaluation.path or evaluation.split
    if source not in _WITH_TEST_SPLIT and not named:
        raise ConfigError(
            f"[eval]: the source `{source}` keeps no questions from training by itself; name them "
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

    When the source has more than `max_examples`, so many are drawn from all of it at random, the
    same ones each time, and kept in the source's order: the first ones may be all of one kind.

    Raises:
      ConfigError: as `held_out_data`; also all questions of a source without end.
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
                "eval.max_examples: `0` means all questions, and this source makes them without "
                "end; say how many to ask"
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
    """The single file that is read, when it is one; of a directory, `jsonl` reads one too."""
    path = Path(data.path).expanduser()
    files = (path, path / f"{data.split}.jsonl")
    return next((file.resolve() for file in files if data.path and file.is_file()), None)
