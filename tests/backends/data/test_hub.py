import json
import os
import subprocess
import sys

import pytest
from datasets import Dataset, DatasetDict

from retrain_backends.config import DataConfig
from retrain_backends.data import load_examples
from retrain_backends.errors import DataError
from retrain_backends.types import Example

COLUMNS = {"question": ["1?", "2?"], "answer": ["1", "2"], "level": [3, 4]}
EXAMPLES = [Example("1?", "1", {"level": "3"}), Example("2?", "2", {"level": "4"})]

# Loads each configuration in a process of its own, because the hub's address and the place of its
# cache are read from the environment when huggingface_hub is imported.
SCRIPT = """
import json, sys
from retrain_backends.config import DataConfig
from retrain_backends.data import load_examples
from retrain_backends.errors import DataError

for settings in json.loads(sys.argv[1]):
    try:
        examples = load_examples(DataConfig(**settings), seed=0)
        print(json.dumps([examples[0].question, examples[0].reference, len(examples)]))
    except DataError as error:
        print(json.dumps(str(error)))
"""


def load(path, **settings):
    return load_examples(DataConfig(source="hf", path=str(path), **settings), seed=0)


@pytest.fixture
def run(hub, tmp_path):
    """Loads configurations from the hub of `conftest.py`, with a cache of its own."""
    home = {"HF_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    endpoint = f"http://127.0.0.1:{hub.server_port}"

    def run(*settings, **environment):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(settings)],
            env={**os.environ, **home, "HF_ENDPOINT": endpoint, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.mark.slow
def test_math_is_downloaded_once_and_then_served_from_the_cache(hub, run):
    math = {"source": "math"}
    first = ["intermediate_algebra train 0", r"\frac{1}{2}", 10]
    test = ["intermediate_algebra test 0", r"\frac{1}{2}", 10]
    assert run(math) == [first]
    assert any("precalculus/train" in request for request in hub.requests)
    assert not any("prealgebra/train-" in request for request in hub.requests)
    asked = len(hub.requests)
    assert run(math, math | {"split": "test"}, HF_HUB_OFFLINE="1") == [first, test]
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_data_sets_of_the_hub(run):
    name = "EleutherAI/hendrycks_math"
    fields = {"source": "hf", "question_field": "problem", "answer_field": "level"}
    loaded, misspelt, unsaid, missing, gated, split = run(
        fields | {"path": f"{name}:algebra"},
        fields | {"path": f"{name}:algbra"},
        fields | {"path": name},
        fields | {"path": "nobody/nothing"},
        fields | {"path": "nobody/gated"},
        fields | {"path": f"{name}:algebra", "split": "trian"},
    )
    assert loaded == ["algebra train 0", "Level 5", 2]
    assert "'algbra' not found" in misspelt
    assert "one of several configurations is named as `owner/name:config`" in unsaid
    assert missing.startswith(
        "data.path `nobody/nothing` (split `train`) does not exist on the Hugging Face hub"
    )
    assert gated.startswith(
        "data.path `nobody/gated` (split `train`) is gated on the Hugging Face hub: accept its"
    )
    assert "Unknown split" in split
    assert not any("\n" in problem for problem in (misspelt, unsaid, missing, gated, split))


@pytest.mark.slow
def test_neither_network_nor_cache(run):
    math, other = run({"source": "math"}, {"source": "hf", "path": "a/b"}, HF_HUB_OFFLINE="1")
    assert math.startswith("data.source `math`: EleutherAI/hendrycks_math intermediate_algebra")
    for problem in (math, other):
        assert "is not in the local cache, and http://127.0.0.1" in problem
        assert "set data.path to a local copy" in problem


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_a_single_file(tmp_path, suffix):
    data, file = Dataset.from_dict(COLUMNS), tmp_path / f"rows.{suffix}"
    write = {"parquet": data.to_parquet, "jsonl": data.to_json, "csv": data.to_csv}[suffix]
    write(file)
    assert [example.question for example in load(file)] == ["1?", "2?"]
    assert [example.reference for example in load(file, split="test")] == ["1", "2"]


def test_directories(tmp_path):
    data = Dataset.from_dict(COLUMNS)
    (tmp_path / "plain").mkdir()
    data.to_parquet(tmp_path / "plain" / "train.parquet")
    data.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": data}).save_to_disk(tmp_path / "splits")
    for name in ("plain", "saved", "splits"):
        assert load(tmp_path / name) == EXAMPLES


def test_a_directory_that_describes_several_configurations(mirror):
    fields = {"question_field": "problem", "answer_field": "solution"}
    examples = load(f"{mirror}:geometry", **fields)
    assert [example.question for example in examples] == ["geometry train 0", "geometry train 1"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", r"^data.path: the source `hf` needs a hub id or a local path"),
        ("./nothing", r"^data.path: there is no file or directory `./nothing`$"),
        ("a/b/c", r"^data.path: there is no file or directory `a/b/c`$"),
    ],
)
def test_a_path_that_leads_nowhere(name, problem):
    with pytest.raises(DataError, match=problem):
        load(name)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "rows.txt").write_text("1?")
    with pytest.raises(DataError, match=r"has the ending `.txt`; .parquet, .jsonl"):
        load(tmp_path / "rows.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"cannot be read: ") as caught:
        load(tmp_path / "empty")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_damaged_file_is_one_error_and_nothing_else_is_printed(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"\0" * 4096)
    settings = [{"source": "hf", "path": str(path)}]
    command = [sys.executable, "-c", SCRIPT, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be read: ArrowInvalid" in done.stdout
    assert done.stderr == ""


def test_a_missing_field_names_the_row(tmp_path):
    Dataset.from_dict(COLUMNS).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"row 0 has no field `answr`, .*; did you mean `answer`"):
        load(tmp_path, answer_field="answr")
