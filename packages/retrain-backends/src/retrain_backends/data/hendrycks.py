r"""The MATH data set (Hendrycks et al. 2021, arXiv 2103.03874), its five harder subjects.

Read from `EleutherAI/hendrycks_math` on the Hugging Face hub or from a copy on disk.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from datasets import load_dataset
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from retrain_backends.boxed import extract_boxed
from retrain_backends.config import DataConfig
from retrain_backends.data.hub import Rows, is_saved, reading, rows_of_directory
from retrain_backends.data.rows import Fields
from retrain_backends.errors import DataError
from retrain_backends.types import Example

REPOSITORY = "EleutherAI/hendrycks_math"
SUBJECTS = (
    "intermediate_algebra",
    "precalculus",
    "number_theory",
    "counting_and_probability",
    "geometry",
)

# A few solutions write a box without braces, as TeX also allows: `\boxed 5$`.
_BARE_BOX = re.compile(r"\\boxed\s+(?!\{)([^$]+)\$")


def final_answer(solution: str) -> str:
    r"""The content of the last `\boxed` of a worked solution, or "" if there is none."""
    braced = _BARE_BOX.sub(r"\\boxed{\1}$", solution)
    return extract_boxed(braced) or ""


class MathSource:
    """Reads the five subjects, one after the other.

    Without `data.path` the files come from the hub or its cache.
    `data.path` is a directory with one directory per subject (a copy of the repository, or
    `save_to_disk` for each), or a single data set written by `save_to_disk` whose `type` column
    names the subject. Each example keeps `subject` and `level`.
    """

    def __init__(self, path: str, split: str, fields: Fields) -> None:
        self._path = path
        self._split = split
        self._fields = fields

    @classmethod
    def from_config(cls, config: DataConfig, _seed: int) -> Self:
        """Read what `[data]` names."""
        return cls(config.path, config.split, Fields.from_config(config, "problem", "solution"))

    def load(self) -> list[Example]:
        """All examples of the split.

        Raises:
          DataError: the data cannot be found or read, or a solution has no boxed answer.
        """
        directory = self._directory()
        examples: list[Example] = []
        for subject in SUBJECTS:
            place = f"{self._place()} {subject} (split `{self._split}`)"
            with reading(place):
                rows = self._rows(directory, subject)
                examples += [
                    self._example(row, subject, f"{place} row {number}")
                    for number, row in enumerate(rows)
                ]
        return examples

    def _place(self) -> str:
        return f"data.path `{self._path}`" if self._path else f"data.source `math`: {REPOSITORY}"

    def _directory(self) -> Path | None:
        """The directory of a local copy; None if there is none."""
        if not self._path:
            return cached_copy(self._split)
        directory = Path(self._path).expanduser()
        if not directory.is_dir():
            raise DataError(f"data.path: there is no directory `{directory}`")
        missing = [subject for subject in SUBJECTS if not (directory / subject).is_dir()]
        if missing and not is_saved(directory):
            raise DataError(
                f"data.path: `{directory}` has no directory `{missing[0]}`; a copy of {REPOSITORY}"
                f" has one for each of {', '.join(SUBJECTS)}"
            )
        return directory

    def _rows(self, directory: Path | None, subject: str) -> Rows:
        if directory is None:
            return load_dataset(REPOSITORY, subject, split=self._split)
        if not is_saved(directory):
            return rows_of_directory(directory / subject, None, self._split)
        rows = rows_of_directory(directory, None, self._split)
        return (row for row in rows if _subject_of(row) == subject)

    def _example(self, row: Mapping[str, Any], subject: str, place: str) -> Example:
        example = self._fields.example(row, place)
        answer = final_answer(example.reference)
        if not answer:
            raise DataError(
                f"{place}: the last box of `{self._fields.answer}` is missing or empty,"
                " so there is no reference answer"
            )
        metadata = {"subject": subject, "level": example.metadata.get("level", "")}
        return Example(example.question, answer, metadata)


def cached_copy(split: str) -> Path | None:
    """The directory of the hub's cache that holds the split of every subject, if there is one."""
    patterns = [f"{subject}/{split}*" for subject in SUBJECTS]
    try:
        found = snapshot_download(
            REPOSITORY, repo_type="dataset", allow_patterns=patterns, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    directory = Path(found)
    complete = all(any(directory.glob(pattern)) for pattern in patterns)
    return directory if complete else None


def _subject_of(row: Mapping[str, Any]) -> str:
    """`Counting & Probability` as the name of its directory."""
    return str(row.get("type", "")).lower().replace("&", "and").replace(" ", "_")
