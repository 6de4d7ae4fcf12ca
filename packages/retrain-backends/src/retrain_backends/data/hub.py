"""Data sets of the Hugging Face hub, and directories and files in its formats."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any, Self, TypeAlias

from datasets import Dataset, load_dataset, load_from_disk
from datasets import logging as datasets_logging
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import constants

from retrain_backends.config import DataConfig, did_you_mean
from retrain_backends.data.rows import Fields
from retrain_backends.errors import DataError, RetrainError, describe
from retrain_backends.types import Example

Rows: TypeAlias = Iterable[Any]  # mappings from field to value; `datasets` types them loosely

# Formats of a single file, as `datasets` calls them.
_FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


class HubSource:
    """Reads `data.path`: a hub id, a directory, or a file (.parquet, .jsonl, .json, .csv).

    A data set with several configurations is named with the one wanted, as `openai/gsm8k:main`.
    A directory is laid out like a repository of the hub, or was written by `save_to_disk`. The
    fields are `question` and `answer` unless the configuration names others.
    """

    def __init__(self, path: str, split: str, fields: Fields) -> None:
        self._path = path
        self._split = split
        self._fields = fields

    @classmethod
    def from_config(cls, config: DataConfig, _seed: int) -> Self:
        """Read what `[data]` names."""
        if not config.path:
            raise DataError(
                'data.path: the source `hf` needs a hub id or a local path, as path = "owner/name"'
            )
        return cls(config.path, config.split, Fields.from_config(config, "question", "answer"))

    def load(self) -> list[Example]:
        """All examples of the split, in the data set's order.

        Raises:
          DataError: no such data set, no access, no network and no cached copy, no such split, or
            a row without its fields.
        """
        place = f"data.path `{self._path}` (split `{self._split}`)"
        with reading(place, "; one of several configurations is named as `owner/name:config`"):
            rows = self._rows()
            return [
                self._fields.example(row, f"{place} row {number}")
                for number, row in enumerate(rows)
            ]

    def _rows(self) -> Rows:
        path, config = split_config(self._path)
        local = Path(path).expanduser()
        if local.is_dir():
            return rows_of_directory(local, config, self._split)
        if local.is_file():
            return rows_of_file(local, self._split)
        if path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise DataError(f"data.path: there is no file or directory `{path}`")
        return load_dataset(path, config, split=self._split)


def split_config(path: str) -> tuple[str, str | None]:
    """`owner/name:config` as its two parts; the second is None without a colon."""
    if Path(path).expanduser().exists() or ":" not in path:
        return path, None
    name, _, config = path.rpartition(":")
    return name, config


def rows_of_directory(directory: Path, config: str | None, split: str) -> Rows:
    """One split of a local data set; reads the files themselves, writes no cache.

    Args:
      directory: laid out like a repository of the hub, or written by `save_to_disk`.
      config: name of a configuration, for a directory that describes several.
      split: name of the split.
    """
    if not is_saved(directory):
        return load_dataset(str(directory), config, split=split, streaming=True)
    saved = load_from_disk(directory)
    if isinstance(saved, Dataset):
        return saved
    splits = [str(name) for name in saved]
    if split not in splits:
        raise DataError(
            f"data.split: `{directory}` has no split `{split}`, it has"
            f" {', '.join(f'`{name}`' for name in splits)}{did_you_mean(split, splits, '`{}`')}"
        )
    return saved[split]


def is_saved(directory: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote the directory."""
    return any((directory / name).is_file() for name in ("dataset_dict.json", "state.json"))


def rows_of_file(path: Path, split: str) -> Rows:
    """The rows of one file, which is the whole split."""
    if path.suffix not in _FORMATS:
        raise DataError(
            f"data.path: `{path}` has the ending `{path.suffix}`; {', '.join(_FORMATS)} can be read"
        )
    return load_dataset(
        _FORMATS[path.suffix], data_files={split: str(path)}, split=split, streaming=True
    )


@contextmanager
def reading(place: str, hint: str = "") -> Iterator[None]:
    """A border to the hub, the disk and users' files: every error becomes one line.

    Args:
      place: names the data in the message.
      hint: ends the message if the data exist but cannot be read.
    """
    verbosity = datasets_logging.get_verbosity()
    datasets_logging.set_verbosity(CRITICAL)  # it logs its errors too, beside raising them
    try:
        yield
    except RetrainError:
        raise
    except DatasetNotFoundError as error:
        if "gated" in str(error):
            problem = (
                "is gated on the Hugging Face hub: accept its terms on its page, then run"
                " `hf auth login` or set HF_TOKEN"
            )
        else:
            problem = (
                "does not exist on the Hugging Face hub, or is private (then run `hf auth login`"
                " or set HF_TOKEN)"
            )
        raise DataError(f"{place} {problem}") from error
    except ConnectionError as error:
        raise DataError(
            f"{place} is not in the local cache, and {constants.ENDPOINT} cannot be"
            " reached: set data.path to a local copy, or fill the cache (HF_HOME) on a machine"
            " with a network and copy it here"
        ) from error
    except Exception as error:
        raise DataError(f"{place} cannot be read: {describe(error)}{hint}") from error
    finally:
        datasets_logging.set_verbosity(verbosity)
