"""A local backend whose completions come from a real server in this process."""

from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from retrain_backends.config import load_config
from retrain_backends.local.backend import LocalBackend
from retrain_backends.testing import BackendCase, GroupSampling
from retrain_backends.tokenizer import resolve_model
from retrain_backends.types import SamplingParams
from retrain_test_support.inference.server import InferenceServer

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.toml"
MODEL = str(resolve_model("builtin:tiny-arithmetic"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def server():
    with InferenceServer(MODEL) as running:
        yield running


@pytest.fixture
def settings_of():
    """`settings_of(**overrides)`: of a policy with rank 4."""

    def build(**overrides):
        chosen = {
            "model.lora_rank": 4,
            "training.lr": 0.01,
            "training.seed": 1,
            "training.max_tokens": 24,
        }
        return load_config(QUICKSTART, chosen | overrides).policy(longest_prompt=20)

    return build


@pytest.fixture
def settings(settings_of, server):
    """`settings(**overrides)`: of a policy with rank 4 that samples on the server."""

    def build(**overrides):
        chosen = {"inference.engine": "vllm", "inference.url": server.url}
        return settings_of(**chosen | overrides)

    return build


@pytest.fixture
def backend(settings):
    """`backend(**overrides)`: a backend with these settings; all are closed at the end."""
    with ExitStack() as stack:

        def build(**overrides):
            made = LocalBackend.from_config(settings(**overrides))
            stack.callback(made.close)
            return made

        yield build


@pytest.fixture
def case(tmp_path):
    """Prompts and sampling parameters; temperature 0.7 tells kinds of log-probs apart."""
    params = SamplingParams(temperature=0.7, stop_token_ids=(0,))
    sampling = GroupSampling(seed=7, group_size=4, max_tokens=12, params=params)
    return BackendCase(lambda: None, tmp_path, sampling=sampling)
