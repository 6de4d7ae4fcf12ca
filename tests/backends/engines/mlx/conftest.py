"""A local backend whose completions come from mlx-lm in this process."""

from contextlib import ExitStack

import pytest

from retrain_backends.config import load_config
from retrain_backends.local.backend import LocalBackend

from ..conftest import QUICKSTART


@pytest.fixture
def settings():
    """`settings(**overrides)`: of a policy with rank 4 that samples with mlx-lm."""

    def build(**overrides):
        chosen = {
            "inference.engine": "mlx",
            "model.lora_rank": 4,
            "training.lr": 0.01,
            "training.seed": 1,
            "training.max_tokens": 24,
        }
        return load_config(QUICKSTART, chosen | overrides).policy(longest_prompt=20)

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
