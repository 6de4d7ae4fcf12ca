"""Examples from a JSON Lines file: one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from retrain_backends.config import DataConfig
from retrain_backends.data.rows import Fields
from retrain_backends.errors import DataError
from retrain_backends.types import Example


class JsonlSource:
    """Reads `data.path`: a file, or a directory that holds `<split>.jsonl`.

    The fields are `question` and `answer` unless the configuration names others. Blank lines are
    skipped.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path = path
        self._fields = fields

    @classmethod
    def from_config(cls, config: DataConfig, _seed: int) -> Self:
        """Read what `[data]` names."""
        if not config.path:
            raise DataError('data.path: the source `jsonl` needs a file, as path = "train.jsonl"')
        path = Path(config.path).expanduser()
        if path.is_dir():
            path = path / f"{config.split}.jsonl"
        return cls(path, Fields.from_config(config, "question", "answer"))

    def load(self) -> list[Example]:
        """All examples, in the file's order.

        Raises:
          DataError: no such file, a line that is not a JSON object or has a key twice, or a row
            without its fields.
        """
        if not self._path.is_file():
            raise DataError(f"data.path: there is no file `{self._path}`")
        return list(self._examples())

    def _examples(self) -> Iterator[Example]:
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    place = f"data.path `{self._path}` line {number}"
                    yield self._fields.example(_row(line, place), place)


def _row(line: bytes, place: str) -> dict[str, object]:
    # A border: the user's file. Bytes that are not UTF-8 are a ValueError too.
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place} is a {type(row).__name__}; a JSON object is expected")
    return row


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object without repeated keys: of two answers, either could be meant."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key `{twice}` is repeated")
    return row
