import subprocess
import sys
from pathlib import Path

import pytest

from retrain_squeeze import SqueezeConfigError, compress_adapter
from retrain_squeeze.output_directory import obstacle

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
KILLED = Path(__file__).with_name("killed_squeeze.py")


@pytest.fixture
def source(save_adapter, factors):
    return save_adapter(factors({"layers.0.q": (6, 5), "layers.1.q": (6, 5)}))


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_what_a_killed_attempt_left_is_removed(source, tmp_path):
    output = tmp_path / "out"
    compress_adapter(source, tmp_path / "whole", 2)
    for left in (tmp_path / ".out.0a1b.partial", output / ".out.2c3d.partial"):
        left.mkdir(parents=True)
        (left / WEIGHTS).write_bytes(b"\0")
    compress_adapter(source, output, 2)
    assert contents(output) == contents(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("moved", [[WEIGHTS], [WEIGHTS, CONFIG]])
def test_an_output_that_was_partly_or_wholly_moved_is_completed(source, tmp_path, moved):
    whole, output = tmp_path / "whole", tmp_path / "out"
    compress_adapter(source, whole, 2)
    output.mkdir()
    for name in moved:
        (output / name).write_bytes((whole / name).read_bytes())
    compress_adapter(source, output, 2)
    assert contents(output) == contents(whole)


def test_another_adapter_is_left_alone(source, tmp_path):
    compress_adapter(source, tmp_path / "out", 3)
    before = contents(tmp_path / "out")
    with pytest.raises(SqueezeConfigError, match="a directory with files in it"):
        compress_adapter(source, tmp_path / "out", 2)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("name", "obstacles"),
    [
        (CONFIG, (False, True)),
        ("tokenizer.json", (False, True)),
        ("notes.txt", (True, True)),
        (".out.2c3d.partial/x", (False, False)),
        (".other.2c3d.partial/x", (True, True)),
        ("tokenizer/x", (True, True)),
    ],
)
def test_files_that_are_obstacles(tmp_path, name, obstacles):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert tuple(bool(obstacle(tmp_path / "out", new=new)) for new in (False, True)) == obstacles


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["new", "existing"])
def test_a_squeeze_killed_at_any_moment_can_be_repeated(source, tmp_path, kind):
    (source / "tokenizer.json").write_text("{}")
    compress_adapter(source, tmp_path / "whole", 2)
    (tmp_path / kind).mkdir()
    command = [sys.executable, KILLED, source, tmp_path / "whole", tmp_path / kind, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    moments = done.stdout.splitlines()
    assert [line for line in moments if not line.endswith(" | equal")] == []
    changes = [line.partition(" ")[0] for line in moments]
    assert {"os.mkdir", "open", "os.rename"} <= set(changes)
    assert moments[-1] == "open squeeze.png | equal"
