import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from retrain_backends.fake import FakeOptions, FakeTraining
from retrain_backends.testing import CHECKS, BackendCase, FakeBackend
from retrain_backends.types import (
    Capabilities,
    Restored,
    SamplerCapabilities,
    StepResult,
    TrainerCapabilities,
    Usage,
)


def make_fake() -> FakeBackend:
    return FakeBackend(FakeOptions(), FakeTraining(lr=0.05), seed=1)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_fake_backend_conforms(check, tmp_path):
    check(BackendCase(make=make_fake, directory=tmp_path))


def make_ahead() -> FakeBackend:
    return FakeBackend(FakeOptions(steps_off_policy=1), FakeTraining(lr=0.05), seed=1)


class AtOne(FakeBackend):
    """A service whose trainer knows temperature 1 only, and tells no norm of its gradient."""

    capabilities = Capabilities(
        TrainerCapabilities(False, False, resume="approximate", temperature=False),
        SamplerCapabilities(entropy=False),
    )

    def score(self, prompts, completions, temperature):
        del temperature
        return super().score(prompts, completions, 1.0)

    def train(self, batch) -> StepResult:
        result = super().train(replace(batch, temperature=1.0))
        return replace(result, grad_norm=None)

    def load(self, ref):
        super().load(ref)
        self._updates = 0
        return Restored("cold", "it begins the optimiser anew")

    def usage(self):
        return Usage({"cost": 0.25, "queue_s": 0.0})


def make_at_one() -> FakeBackend:
    return AtOne(FakeOptions(), FakeTraining(lr=0.05), seed=1)


@pytest.mark.parametrize("make", [make_ahead, make_at_one], ids=["ahead", "at one"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_backends_of_other_capabilities_conform(check, make, tmp_path):
    check(BackendCase(make=make, directory=tmp_path))


class Frozen(FakeBackend):
    """Trains another backend and reports that."""

    def train(self, batch) -> StepResult:
        return make_fake().train(batch)


class Unseeded(FakeBackend):
    """Draws new numbers at every call."""

    calls = 0

    def sample(self, requests, params):
        self.calls += 1
        keys = [replace(request.key, seed=self.calls) for request in requests]
        return super().sample(
            [replace(request, key=key) for request, key in zip(requests, keys, strict=True)], params
        )


class Miscounted(FakeBackend):
    """Trains every token, whatever the mask says."""

    def train(self, batch) -> StepResult:
        everything = np.ones_like(batch.trained_t)
        return super().train(replace(batch, trained_t=everything))


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


class Boastful(AtOne):
    """Starts the optimiser anew, and reports an exact resume."""

    def load(self, ref):
        return replace(super().load(ref), fidelity="exact")


class Modest(FakeBackend):
    """Declares that it resumes exactly, and then says that it did not."""

    def load(self, ref):
        return replace(super().load(ref), fidelity="approximate")


class Unmeasured(FakeBackend):
    """Does not know what it costs, and says so in the wrong way."""

    def usage(self):
        return Usage({"cost": float("nan")})


class TooWarm(AtOne):
    """Scores at the temperature that is asked for, against its word."""

    def score(self, prompts, completions, temperature):
        return FakeBackend.score(self, prompts, completions, temperature)


class Racing(FakeBackend):
    """Says that it can sample beside training, and asks the newest table for every prompt."""

    @property
    def facts(self):
        return replace(super().facts, steps_off_policy=1)

    def sample(self, requests, params):
        for index, request in enumerate(requests):
            yield from ((index, group) for _, group in super().sample([request], params))


class Impatient(FakeBackend):
    """Has the same limit for all requests."""

    def sample(self, requests, params):
        longest = max(request.max_tokens for request in requests)
        return super().sample([replace(r, max_tokens=longest) for r in requests], params)


class Piecemeal(FakeBackend):
    """Takes an optimiser step on the last part of a step."""

    capabilities = replace(
        FakeBackend.capabilities, trainer=replace(FakeBackend.capabilities.trainer, parts=True)
    )

    def accumulate(self):
        return self

    def add(self, part):
        self.last = part

    def finish(self):
        return self.train(self.last)


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Frozen, "check_training_lowers_the_loss"),
        (Unseeded, "check_sampling_is_repeatable"),
        (Miscounted, "check_mask_leaves_tokens_out"),
        (OneTemperature, "check_scores_are_those_of_the_sampler"),
        (Forgetful, "check_load_continues_what_save_wrote"),
        (Boastful, "check_load_continues_what_save_wrote"),
        (Modest, "check_load_continues_what_save_wrote"),
        (Unmeasured, "check_usage_is_reported"),
        (TooWarm, "check_scores_are_those_of_the_sampler"),
        (Racing, "check_sampling_beside_training"),
        (Racing, "check_policy_is_that_of_the_call"),
        (Impatient, "check_each_request_has_its_own_limit"),
        (Piecemeal, "check_parts_are_trained_as_a_whole"),
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
