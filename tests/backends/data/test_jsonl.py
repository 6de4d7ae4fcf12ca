import pytest

from retrain_backends.config import DataConfig
from retrain_backends.data import load_examples
from retrain_backends.errors import DataError
from retrain_backends.types import Example


@pytest.fixture
def load(tmp_path):
    """Writes a file of these bytes and loads it."""

    def load(content, **settings):
        (tmp_path / "rows.jsonl").write_bytes(content)
        path = str(tmp_path / "rows.jsonl")
        return load_examples(DataConfig(source="jsonl", path=path, **settings), seed=0)

    return load


def test_rows_in_order_with_the_other_fields_kept(load):
    rows = load(
        b'\xef\xbb\xbf{"question": "1 + 1?", "answer": 2, "level": 1, "tags": ["a"]}\r\n'
        b"\n"
        b'{"answer": " x ", "question": "\xc3\xa9?"}'
    )
    assert rows == [Example("1 + 1?", "2", {"level": "1"}), Example("é?", " x ")]


def test_fields_of_other_names(load):
    rows = load(b'{"q": "1?", "a": 1.5}', question_field="q", answer_field="a")
    assert rows == [Example("1?", "1.5")]


def test_a_directory_holds_one_file_per_split(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"question": "1?", "answer": "1"}')
    config = DataConfig(source="jsonl", path=str(tmp_path), split="test")
    assert load_examples(config, 0) == [Example("1?", "1")]
    with pytest.raises(DataError, match=r"there is no file `.*train.jsonl`"):
        load_examples(DataConfig(source="jsonl", path=str(tmp_path)), 0)


GOOD = b'{"question": "1?", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"has no rows"),
        (b"\n \n", r"has no rows"),
        (GOOD + b'{"question": "2?",\n', r"line 2 is not valid JSON: Expecting"),
        (b'{"question": "\xff"}', r"line 1 is not valid JSON: .*utf-8"),
        (b"[" * 100_000, r"line 1 is not valid JSON: .*recursion"),
        (GOOD + b"\n[1]", r"line 3 is a list; a JSON object is expected"),
        (
            b'{"question": "2?", "anwser": "1"}',
            r"line 1 has no field `answer`, it has `question`, `anwser`:"
            r" set data.answer_field; did you mean `anwser`\?$",
        ),
        (b"{}", r"line 1 has no field `question`, it has none: set data.question_field$"),
        (b'{"question": "2?", "answer": " "}', r"line 1: the field `answer` is empty$"),
        (b'{"question": null, "answer": "1"}', r"line 1: the field `question` is empty$"),
        (b'{"question": "2?", "answer": ["1"]}', r"line 1: the field `answer` is a list; text or"),
        (b'{"question": "2?", "answer": true}', r"line 1: the field `answer` is a bool; text or"),
        (GOOD + b'{"question": "2?", "answer": NaN}', r"line 2: the field `answer` is nan; text"),
        (b'{"question": "2?", "answer": -1e999}', r"line 1: the field `answer` is -inf; text or"),
        (
            GOOD + rb'{"question": "a \ud83d b", "answer": "1"}',
            r"line 2: the field `question` has half of a surrogate pair, '\\ud83d', which is no",
        ),
        (
            b'{"question": "2?", "answer": "1", "answer": "2"}',
            r"line 1 is not valid JSON: the key `answer` is repeated$",
        ),
    ],
)
def test_errors_are_one_line_and_name_the_place(load, content, problem):
    with pytest.raises(DataError, match=problem) as caught:
        load(content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data.path `")


def test_the_path_is_needed_and_must_exist(tmp_path):
    with pytest.raises(DataError, match=r"^data.path: the source `jsonl` needs a file"):
        load_examples(DataConfig(source="jsonl"), 0)
    with pytest.raises(DataError, match=r"^data.path: there is no file `.*nothing.jsonl`$"):
        load_examples(DataConfig(source="jsonl", path=str(tmp_path / "nothing.jsonl")), 0)
