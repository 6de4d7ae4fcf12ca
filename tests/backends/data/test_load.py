from contextlib import chdir

import pytest

from retrain_backends.config import DataConfig
from retrain_backends.data import load_examples
from retrain_backends.errors import DataError, PluginError
from retrain_backends.types import Example

PLUGIN = """
from retrain_backends.types import Example

class Squares:
    def __init__(self, count):
        self.count = count

    @classmethod
    def from_config(cls, config, seed):
        return cls(seed)

    def load(self):
        return [Example(f"{i} * {i}?", str(i * i)) for i in range(self.count)]

class NoReference:
    def load(self):
        return [Example("1?", "1"), Example("2?", " ")]

class NoQuestion:
    def load(self):
        return [Example("", "1")]

class Dictionaries:
    def load(self):
        return [{"question": "1?", "reference": "1"}]

class Numbers:
    def load(self):
        return [Example("1?", "1"), Example("2?", 2)]

class HalfACharacter:
    def load(self):
        return [Example("\\ud83d?", "1")]

class Generator:
    def load(self):
        yield Example("1?", "1")

class Unreadable:
    def load(self):
        return self

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise OSError("the disk is gone")

class Fails:
    def load(self):
        raise OSError("the disk\\nis gone")

class Leaves:
    def load(self):
        raise SystemExit(0)
"""


@pytest.fixture
def load(tmp_path_factory):
    """Loads the class of that name from the user's module in the working directory."""
    directory = tmp_path_factory.mktemp("plugin")
    module = f"data_of_{directory.name}"
    (directory / f"{module}.py").write_text(PLUGIN)

    def load(name, seed=3, max_examples=0):
        with chdir(directory):
            return load_examples(DataConfig(source=f"{module}.{name}"), seed, max_examples)

    return load


def test_a_source_of_the_users_own(load):
    examples = load("Squares")
    assert examples == [Example("0 * 0?", "0"), Example("1 * 1?", "1"), Example("2 * 2?", "4")]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("NoReference", r"the reference of example 1 \(counted from 0\) is empty$"),
        ("NoQuestion", r"the question of example 0 \(counted from 0\) is empty$"),
        ("Numbers", r"the reference of example 1 \(counted from 0\) is a int; text is expected$"),
        ("HalfACharacter", r"the question of example 0 .* has half of a surrogate pair, '\\ud83d'"),
        ("Dictionaries", r"example 0 is a dict; a source returns retrain_backends.types.Example$"),
        ("Fails", r"^data.source: `data_of_plugin\d+.Fails` failed: OSError: the disk is gone$"),
        ("Leaves", r"^data.source: `data_of_plugin\d+.Leaves` failed: SystemExit: 0$"),
        ("Unreadable", r"^data.source: `.*Unreadable` failed: OSError: the disk is gone$"),
        ("Generator", r"^data.source: `.*` returns a generator; a list or another sequence is exp"),
    ],
)
@pytest.mark.parametrize("max_examples", [0, 2])
def test_a_source_of_the_users_own_that_goes_wrong(load, name, problem, max_examples):
    with pytest.raises(DataError, match=problem):
        load(name, max_examples=max_examples)


def test_no_rows(load):
    with pytest.raises(DataError, match=r"has no rows \(split `train`\)$"):
        load("Squares", seed=0)


def test_an_endless_source_stays_endless():
    examples = load_examples(DataConfig(source="arithmetic"), seed=1)
    assert examples[10**12].question != examples[0].question


def test_max_examples_keeps_the_first_ones(tmp_path):
    endless = load_examples(DataConfig(source="arithmetic"), seed=1)
    some = load_examples(DataConfig(source="arithmetic"), seed=1, max_examples=4)
    assert list(some) == some[:9] == [endless[i] for i in range(4)]
    with pytest.raises(IndexError):
        some[4]
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": "1?", "answer": 1}\n{"question": "2?", "answer": 2}\n')
    config = DataConfig(source="jsonl", path=str(file))
    assert [e.reference for e in load_examples(config, 0, max_examples=1)] == ["1"]
    assert [e.reference for e in load_examples(config, 0, max_examples=9)] == ["1", "2"]


def test_many_examples_of_an_endless_source_are_made_when_they_are_read():
    many = load_examples(DataConfig(source="arithmetic"), seed=1, max_examples=10**15)
    assert len(many) == 10**15
    assert many[10**15 - 1].question != many[0].question


def test_a_source_that_does_not_exist():
    with pytest.raises(PluginError, match=r"^data.source: `no_such_module.X`: there is no module"):
        load_examples(DataConfig(source="no_such_module.X"), seed=0)
