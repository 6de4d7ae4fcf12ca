"""A Tinker service in this process, and runs that use it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrain_backends.config import RunConfig, load_config
from retrain_backends.testing import GroupSampling
from retrain_backends.tinker.backend import TinkerBackend
from retrain_backends.types import Completion, SamplingParams, TrainBatch
from retrain_test_support.tinker.server import MODEL_NAME, TinkerServer

SAMPLING = GroupSampling(3, 4, 6, SamplingParams(temperature=1.0, stop_token_ids=(0,)))


def pytest_collection_modifyitems(items):
    """The SDK leaves some of its connections to the garbage collector, which warns of each."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
            )


@pytest.fixture
def server():
    """A service that does what it is asked, until a test says otherwise."""
    with TinkerServer(vocabulary=32) as running:
        yield running


@pytest.fixture
def configure(server) -> Callable[..., RunConfig]:
    """`configure({"section.key": value})`: a run's configuration on the service."""

    def make(overrides: dict[str, object] | None = None) -> RunConfig:
        settings = {
            "backend.backend": "tinker",
            "model.model": MODEL_NAME,
            "model.base_url": server.url,
            "model.lora_rank": 4,
            "training.seed": 3,
            "training.lr": 0.05,
            "logging.learning_curve": False,
        }
        return load_config(None, {**settings, **(overrides or {})})

    return make


@pytest.fixture
def backend(configure):
    """`backend(overrides)`: a backend on the service; all are closed at the end."""
    made: list[TinkerBackend] = []

    def make(overrides: dict[str, object] | None = None) -> TinkerBackend:
        made.append(TinkerBackend.from_config(configure(overrides).policy()))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def prompts() -> list[np.ndarray]:
    return [np.array([1, 2, 3]), np.array([4, 5])]


@pytest.fixture
def sampling() -> GroupSampling:
    return SAMPLING


@pytest.fixture
def to_batch(prompts) -> Callable[..., TrainBatch]:
    """`to_batch(groups)`: all completions as a batch in which even tokens are better than odd."""

    def make(groups: list[list[Completion]], step: int = 0) -> TrainBatch:
        rows = [row for group in groups for row in group]
        tokens_t = np.concatenate([row.tokens_T for row in rows])
        return TrainBatch(
            prompts=prompts,
            group_offsets_g=np.cumsum([0, *map(len, groups)]),
            token_offsets_n=np.cumsum([0, *(len(row.tokens_T) for row in rows)]),
            tokens_t=tokens_t,
            logprobs_t=np.concatenate([row.logprobs_T for row in rows]),
            advantages_t=np.where(tokens_t % 2 == 0, 1.0, -0.5),
            trained_t=np.arange(len(tokens_t)) % 7 != 3,
            temperature=1.0,
            step=step,
            seed=3,
        )

    return make
