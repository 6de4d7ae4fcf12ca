from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.data import Endless, PromptStream
from retrain_backends.data.arithmetic import ArithmeticExamples
from retrain_backends.data.stream import is_endless
from retrain_backends.types import Example, Prompt


def render(example):
    return Prompt(example, example.question, np.array([len(example.question)]))


def prompts(length, *, seed=0, shuffle=True):
    examples = [Example(str(i), "1") for i in range(length)]
    return PromptStream(examples, render, seed, shuffle)


def drawn(stream, cursor, size):
    return [prompt.example.question for prompt in stream.batch(cursor, size)]


@given(length=st.integers(1, 12), sizes=st.lists(st.integers(0, 9), max_size=8))
def test_the_batch_size_does_not_change_what_comes_when(length, sizes):
    stream = prompts(length)
    in_parts = []
    for size in sizes:
        in_parts += drawn(stream, len(in_parts), size)
    assert in_parts == drawn(prompts(length), 0, sum(sizes))


@given(length=st.integers(1, 12), epochs=st.integers(1, 4), seed=st.integers(0, 2**63 - 1))
def test_every_epoch_has_every_example_once(length, epochs, seed):
    order = drawn(prompts(length, seed=seed), 0, length * epochs)
    for start in range(0, len(order), length):
        assert sorted(order[start : start + length]) == sorted(map(str, range(length)))


def test_epochs_and_seeds_have_orders_of_their_own():
    stream = prompts(50, seed=3)
    first, second = drawn(stream, 0, 50), drawn(stream, 50, 50)
    other = drawn(prompts(50, seed=4), 0, 50)
    assert len({tuple(first), tuple(second), tuple(other), tuple(map(str, range(50)))}) == 4


def test_the_first_prompts_of_a_seed_never_change():
    assert "".join(drawn(prompts(10, seed=42), 0, 12)) == "670142593887"


def test_without_shuffle_the_order_is_the_sources_own():
    assert drawn(prompts(3, shuffle=False), 2, 5) == ["2", "0", "1", "2", "0"]


@pytest.mark.parametrize("shuffle", [True, False])
def test_endless_examples_come_by_their_number(shuffle):
    examples = ArithmeticExamples(seed=7, split="train")
    stream = PromptStream(examples, render, 7, shuffle)
    assert [p.example for p in stream.batch(1000, 3)] == [examples[i] for i in (1000, 1001, 1002)]


def test_only_marked_examples_are_endless():
    class Finite(list):
        endless = False

    assert isinstance(ArithmeticExamples(0, "test"), Endless)
    assert not is_endless([])
    assert not is_endless(Finite())


def test_many_prompts_at_once():
    counts = Counter(drawn(prompts(3), 1, 3001))
    assert set(counts.values()) <= {1000, 1001}
