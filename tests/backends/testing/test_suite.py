import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from retrain_backends.fake import FakeOptions, FakeTraining
from retrain_backends.testing import CHECKS, BackendCase, FakeBackend
from retrain_backends.types import StepResult


def make_fake() -> FakeBackend:
    return FakeBackend(FakeOptions(), FakeTraining(lr=0.05), seed=1)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_fake_backend_conforms(check, tmp_path):
    check(BackendCase(make=make_fake, directory=tmp_path))


class Frozen(FakeBackend):
    """Trains another backend and reports that."""

    def train_step(self, batch) -> StepResult:
        return make_fake().train_step(batch)


class Unseeded(FakeBackend):
    """Draws new numbers at every call."""

    calls = 0

    def sample(self, prompts, params, _on_group=None):
        self.calls += 1
        return super().sample(prompts, replace(params, seed=self.calls))


class Miscounted(FakeBackend):
    """Trains every token, whatever the mask says."""

    def train_step(self, batch) -> StepResult:
        everything = np.ones_like(batch.trained_t)
        return super().train_step(replace(batch, trained_t=everything))


class OneTemperature(FakeBackend):
    """Scores at temperature 1 whatever is asked for."""

    def score(self, prompts, completions, *_temperature, **_named):
        return super().score(prompts, completions, 1.0)


class Forgetful(FakeBackend):
    """Loads the weights without the optimiser."""

    def load(self, ref):
        restored = super().load(ref)
        self._updates = 0
        return restored


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Frozen, "check_training_lowers_the_loss"),
        (Unseeded, "check_sampling_is_repeatable"),
        (Miscounted, "check_mask_leaves_tokens_out"),
        (OneTemperature, "check_scores_are_those_of_the_sampler"),
        (Forgetful, "check_load_continues_what_save_wrote"),
    ],
)
def test_suite_catches_a_broken_backend(broken, caught_by, tmp_path):
    case = BackendCase(
        make=lambda: broken(FakeOptions(), FakeTraining(lr=0.05), seed=1), directory=tmp_path
    )
    check = next(check for check in CHECKS if check.__name__ == caught_by)
    with pytest.raises(AssertionError):
        check(case)


def test_authors_of_backends_need_no_heavy_import():
    heavy = "{'torch', 'transformers', 'matplotlib'}"
    code = f"import sys, retrain_backends.testing; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
