import json

import pytest

from retrain_backends.config import DataConfig, EvalConfig
from retrain_backends.data import load_examples, load_held_out
from retrain_backends.data.held_out import held_out_data
from retrain_backends.errors import ConfigError, DataError

ARITHMETIC = DataConfig(source="arithmetic")


@pytest.fixture
def jsonl(tmp_path):
    """`jsonl(name, rows)`: a file of so many rows."""

    def write(name, rows):
        path = tmp_path / name
        lines = [json.dumps({"question": f"{name} {i}", "answer": i}) for i in range(rows)]
        path.write_text("\n".join(lines))
        return str(path)

    return write


def test_arithmetic_is_its_test_split_whatever_the_seed_of_the_run():
    chosen = load_held_out(ARITHMETIC, EvalConfig(every=1, max_examples=50))
    assert [index for index, _ in chosen] == list(range(50))
    expected = list(load_examples(DataConfig(source="arithmetic", split="test"), 0, 50))
    assert [example for _, example in chosen] == expected
    trained = load_examples(ARITHMETIC, 0, 500)
    assert not {e.question for e in expected} & {e.question for e in trained}


def test_some_are_drawn_from_the_whole_source_and_always_the_same(jsonl):
    data = DataConfig(source="jsonl", path=jsonl("train.jsonl", 3))
    evaluation = EvalConfig(path=jsonl("test.jsonl", 400), max_examples=20)
    chosen = load_held_out(data, evaluation)
    indices = [index for index, _ in chosen]
    assert indices == sorted(set(indices))
    assert len(indices) == 20
    assert max(indices) > 300
    assert [example.reference for _, example in chosen] == [str(index) for index in indices]
    assert load_held_out(data, evaluation) == chosen


@pytest.mark.parametrize("max_examples", [0, 7, 8])
def test_all_are_asked_when_there_are_no_more(jsonl, max_examples):
    data = DataConfig(source="jsonl", path=jsonl("train.jsonl", 3))
    evaluation = EvalConfig(path=jsonl("test.jsonl", 7), max_examples=max_examples)
    assert [index for index, _ in load_held_out(data, evaluation)] == list(range(7))


def test_math_is_its_own_test_split():
    held_out = held_out_data(DataConfig(path="copy", question_field="text"), EvalConfig())
    assert (held_out.source, held_out.path, held_out.split) == ("math", "copy", "test")
    assert held_out.question_field == "text"


def test_another_source_brings_nothing_of_the_training_data(jsonl):
    data = DataConfig(source="jsonl", path="train.jsonl", question_field="text")
    held_out = held_out_data(data, EvalConfig(source="math"))
    assert (held_out.path, held_out.split, held_out.question_field) == ("", "test", "")


def test_a_split_of_a_directory(jsonl, tmp_path):
    jsonl("train.jsonl", 2)
    jsonl("dev.jsonl", 3)
    data = DataConfig(source="jsonl", path=str(tmp_path))
    chosen = load_held_out(data, EvalConfig(split="dev"))
    assert [example.question for _, example in chosen] == [
        "dev.jsonl 0",
        "dev.jsonl 1",
        "dev.jsonl 2",
    ]


@pytest.mark.parametrize("source", ["jsonl", "hf", "my_data.Puzzles"])
def test_sources_without_a_test_split_need_a_path_or_split(source):
    with pytest.raises(ConfigError, match=r"name them with eval\.path .* or with eval\.split"):
        load_held_out(DataConfig(source=source, path="owner/name"), EvalConfig())


@pytest.mark.parametrize(
    ("data", "evaluation"),
    [
        (DataConfig(source="arithmetic", split="test"), EvalConfig()),
        (DataConfig(source="hf", path="owner/name"), EvalConfig(split="train")),
        (DataConfig(source="my_data.Puzzles", path="x"), EvalConfig(split="train")),
    ],
)
def test_training_data_is_not_held_out(data, evaluation):
    with pytest.raises(ConfigError, match="which are trained on"):
        held_out_data(data, evaluation)


def test_one_file_is_one_split_whatever_it_is_called(jsonl, tmp_path):
    path = jsonl("train.jsonl", 2)
    data = DataConfig(source="jsonl", path=path)
    for evaluation in (EvalConfig(split="test"), EvalConfig(source="hf", path=path)):
        with pytest.raises(ConfigError, match="which are trained on"):
            held_out_data(data, evaluation)
    with pytest.raises(ConfigError, match="which are trained on"):
        held_out_data(DataConfig(source="jsonl", path=str(tmp_path)), EvalConfig(path=path))


def test_an_endless_source_has_no_all():
    with pytest.raises(ConfigError, match=r"eval\.max_examples: `0`"):
        load_held_out(ARITHMETIC, EvalConfig(max_examples=0))


def test_what_is_wrong_with_the_questions_is_said_of_them(jsonl):
    data = DataConfig(source="jsonl", path=jsonl("train.jsonl", 3))
    with pytest.raises(DataError, match=r"the questions of \[eval\]: .*no file `none\.jsonl`"):
        load_held_out(data, EvalConfig(path="none.jsonl"))
