import pickle

import pytest

from retrain_backends.data.arithmetic import ArithmeticExamples, split_of
from retrain_backends.errors import DataError


def operands(question: str) -> tuple[int, str, int]:
    left, operator, right = question.removeprefix("What is ").removesuffix("?").split()
    return int(left), operator, int(right)


def test_example_is_a_function_of_seed_split_and_index():
    far = 2**40
    assert ArithmeticExamples(3, "train")[far] == ArithmeticExamples(3, "train")[far]
    assert ArithmeticExamples(3, "train")[:20] != ArithmeticExamples(4, "train")[:20]
    assert ArithmeticExamples(3, "train")[:20] != ArithmeticExamples(3, "test")[:20]


def test_numbers_never_change():
    questions = [(e.question, e.reference) for e in ArithmeticExamples(42, "train")[:4]]
    assert questions == [
        ("What is 45 - 36?", "9"),
        ("What is 71 - 61?", "10"),
        ("What is 83 + 708?", "791"),
        ("What is 4 * 52?", "208"),
    ]


@pytest.mark.parametrize("split", ["train", "test"])
def test_reference_is_the_answer_as_text(split):
    for example in ArithmeticExamples(0, split)[:300]:
        left, operator, right = operands(example.question)
        expected = {"+": left + right, "-": left - right, "*": left * right}[operator]
        assert example.reference == str(expected)
        assert example.metadata == {"operator": operator}
        assert expected >= 0


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_question_lies_in_its_split_whatever_the_seed(split):
    for seed in (0, 1, 2**31):
        for example in ArithmeticExamples(seed, split)[:100]:
            assert split_of(*operands(example.question)) == split


def test_one_question_in_eight_is_held_out():
    held_out = sum(split_of(a, "+", b) == "test" for a in range(100, 200) for b in range(200, 300))
    assert held_out == pytest.approx(10_000 / 8, rel=0.05)


@pytest.mark.parametrize("operator", ["+", "*"])
def test_swapped_operands_are_the_same_question(operator):
    for left in range(2, 10):
        for right in range(10, 40):
            assert split_of(left, operator, right) == split_of(right, operator, left)


def test_questions_hardly_repeat():
    questions = [example.question for example in ArithmeticExamples(0, "train")[:1000]]
    assert len(set(questions)) > 930


def test_endless_and_never_counted_from_the_end():
    examples = ArithmeticExamples(0, "train")
    assert examples.endless
    assert len(examples) > 10**18
    assert examples[4:10:3] == [examples[4], examples[7]]
    with pytest.raises(IndexError):
        examples[-1]
    with pytest.raises(ValueError, match="stop"):
        examples[3:]


def test_travels_to_another_process():
    examples = ArithmeticExamples(5, "test")
    assert pickle.loads(pickle.dumps(examples))[7] == examples[7]


def test_unknown_split_names_those_that_exist():
    with pytest.raises(DataError, match=r"`validation`.*`train` and `test`"):
        ArithmeticExamples(0, "validation")
