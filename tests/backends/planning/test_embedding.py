import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

from retrain_backends.errors import ConfigError, ModelError
from retrain_backends.planning.embedding import load_sentence_model

SENTENCES = ["Let me check.", "x", "So the sum of all the numbers up to ten is 55."]


@pytest.mark.parametrize("name", ["./nowhere", "~/no where", "/no/where", "a/b/c"])
def test_a_directory_that_does_not_exist(name):
    with pytest.raises(ModelError, match=f"^planning.model: there is no directory `{name}`$"):
        load_sentence_model(name, "cpu", "a test")


@pytest.fixture
def error_of(tmp_path):
    """The error of loading the default model in a new process, on a machine without a network."""

    def run(before=""):
        program = (
            f"import sys\n{before}\n"
            "from retrain_backends.config import PlanningConfig\n"
            "from retrain_backends.errors import RetrainError\n"
            "from retrain_backends.planning import build_detector\n"
            "try:\n"
            "    build_detector(PlanningConfig(detector='semantic'), '')\n"
            "except RetrainError as error:\n"
            "    print(error.exit_code, error)\n"
        )
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=offline)

    return run


def test_a_machine_without_the_library(error_of):
    done = error_of("sys.modules['sentence_transformers'] = None")
    assert done.stdout == (
        "2 planning.detector: `semantic` needs the package `sentence_transformers`, which is not"
        " installed: pip install 'retrain-backends[semantic]'\n"
    )


@pytest.mark.slow
def test_a_machine_without_a_network(error_of, minilm_path):
    [line] = error_of().stdout.splitlines()
    assert line.startswith("2 planning.model: `all-MiniLM-L6-v2` cannot be loaded: OSError: ")
    assert line.endswith("; without a network, set it to a directory with the files of the model")


@pytest.mark.slow
def test_vectors_do_not_depend_on_the_batch(minilm):
    together = minilm(SENTENCES)
    assert together.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-14)
    for sentence, vector in zip(SENTENCES, together, strict=True):
        np.testing.assert_allclose(minilm([sentence])[0], vector, atol=1e-14)


@pytest.mark.slow
def test_a_device_that_is_not_there(minilm_path):
    with pytest.raises(ConfigError, match=r"^planning.device: `cuda:99` cannot be used: .*; use "):
        load_sentence_model(minilm_path, "cuda:99", "a test")


@pytest.mark.slow
def test_a_directory_without_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"^planning.model: `.*` cannot be loaded: .*; without a"):
        load_sentence_model(str(tmp_path), "cpu", "a test")
