"""Makes examples from the rows of a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Self

from retrain_backends.config import DataConfig, did_you_mean
from retrain_backends.errors import DataError
from retrain_backends.types import Example


@dataclass(frozen=True)
class Fields:
    """Which fields of a row hold the question and its answer."""

    question: str
    answer: str

    @classmethod
    def from_config(cls, config: DataConfig, question: str, answer: str) -> Self:
        """The configured names; empty ones mean the source's usual `question` and `answer`."""
        return cls(config.question_field or question, config.answer_field or answer)

    def example(self, row: Mapping[str, object], place: str) -> Example:
        """The example of one row; the row's other texts and numbers become its metadata.

        Args:
          row: field names and values.
          place: names the row in error messages.

        Raises:
          DataError: a field is missing, is empty, or holds neither text nor a finite number.
        """
        question = self._text(row, self.question, "data.question_field", place)
        reference = self._text(row, self.answer, "data.answer_field", place)
        others = {
            name: str(value)
            for name, value in row.items()
            if name not in (self.question, self.answer) and isinstance(value, str | int | float)
        }
        return Example(question, reference, others)

    def _text(self, row: Mapping[str, object], name: str, setting: str, place: str) -> str:
        if name not in row:
            raise DataError(
                f"{place} has no field `{name}`, it has"
                f" {', '.join(f'`{key}`' for key in row) or 'none'}: set {setting}"
                + did_you_mean(name, list(row), "`{}`")
            )
        value = row[name]
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise DataError(
                f"{place}: the field `{name}` is a {type(value).__name__};"
                f" text or a number is expected: set {setting}"
            )
        if isinstance(value, float) and not isfinite(value):
            raise DataError(
                f"{place}: the field `{name}` is {value}; text or a finite number is expected"
            )
        text = "" if value is None else str(value)
        if wrong := text_problem(text):
            raise DataError(f"{place}: the field `{name}` {wrong}")
        return text


def text_problem(text: object) -> str:
    """Why it cannot be a question or an answer, such as "is empty"; "" if it can.

    JSON can encode half of a surrogate pair, which no tokenizer accepts.
    """
    if not isinstance(text, str):
        return f"is a {type(text).__name__}; text is expected"
    if not text.strip():
        return "is empty"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"has half of a surrogate pair, {text[error.start]!a}, which is no character"
    return ""
