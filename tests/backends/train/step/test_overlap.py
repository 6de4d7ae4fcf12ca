"""Groups are trained while others are sampled, with the gradient of a step that waits."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.numpy import load_file

from retrain_backends.config import load_config
from retrain_backends.errors import RunError
from retrain_backends.local.trainer import LocalTrainer
from retrain_backends.protocols import GradientParts
from retrain_backends.tokenizer import resolve_model
from retrain_backends.tracking.journal import read_metrics, without_times
from retrain_backends.train import train
from retrain_backends.train.build import build
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.train.loop import run_steps
from retrain_backends.train.step.overlap import Overlap
from retrain_core import TransformSpec, spread
from retrain_test_support.inference.server import InferenceServer

QUICKSTART = Path(__file__).parents[4] / "examples" / "quickstart.toml"
MODEL = str(resolve_model("builtin:tiny-arithmetic"))
SOON_S = 60.0
OVERLAP = "inference.overlap"
PROMPTS, GROUP = 3, 6
ROUNDING = 1e-4  # of sums in another order, after two steps
# Where sampler and trainer agree, these are rounding and nothing else.
NOISE = {"kl_k3", "mean_abs_logprob_diff", "ratio_p99", "ratio_max"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Ordered(InferenceServer):
    """Answers the groups of a step in an order of its own, once all were asked for.

    Before the last one it waits until `go` is set.
    """

    def __init__(self, seed=0):
        super().__init__(MODEL)
        self._random = np.random.default_rng(seed)
        self._turn = threading.Condition()
        self._asked, self._order = [], []
        self.go = threading.Event()
        self.go.set()

    def answer(self, path, body):
        if path != "/v1/completions" or body["n"] != GROUP:
            return super().answer(path, body)
        with self._turn:
            self._asked.append(body["prompt"])
            if len(self._asked) == PROMPTS:
                order = self._random.permutation(PROMPTS)
                self._order = [sorted(self._asked)[index] for index in order]
                self._asked = []
                self._turn.notify_all()
            assert self._turn.wait_for(lambda: body["prompt"] in self._order[:1], SOON_S)
            assert len(self._order) > 1 or self.go.wait(SOON_S)
            try:
                return super().answer(path, body)
            finally:
                self._order.pop(0)
                self._turn.notify_all()


@pytest.fixture
def configure(tmp_path):
    """`configure(server, name, **overrides)`: a step that overlaps."""

    def make(server, name, **overrides):
        settings = {
            "inference.engine": "vllm",
            "inference.url": server.url,
            OVERLAP: "exact",
            "model.lora_rank": 4,
            "training.max_steps": 1,
            "training.batch_size": PROMPTS,
            "training.group_size": GROUP,
            "training.max_tokens": 24,
            "eval.every": 0,
            "logging.learning_curve": False,
            "logging.log_dir": str(tmp_path / name),
        }
        return load_config(QUICKSTART, settings | overrides)

    return make


def weights(run_dir):
    adapter = load_file(run_dir / "final" / "adapter_model.safetensors")
    return np.concatenate([adapter[name].ravel() for name in sorted(adapter)])


def assert_same_runs(one, two):
    for row, expected in zip(read_metrics(one.run_dir), read_metrics(two.run_dir), strict=True):
        for name in without_times(row).keys() - NOISE:
            same = expected[name]
            if isinstance(same, float):
                same = pytest.approx(same, rel=ROUNDING)
            assert row[name] == same, name
    a, b = weights(one.run_dir), weights(two.run_dir)
    # AdamW scales the rounding of tiny gradients up, to a small part of the learning rate.
    assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(b)


RULES = [
    ("grpo", "none", {}),
    ("maxrl", "gtpo_sepa", {"reward.type": "math", "sepa.delay_steps": 0, "sepa.steps": 1}),
    ("grpo_std", "gtpo_hicra", {"algorithm.params": {"clip_eps": 0.2, "advantage_cap": 0.5}}),
    ("rloo", "entropy_mask", {"algorithm.importance_cap": 2.0}),
    ("reinforce_pp", "gtpo", {"algorithm.advantage_params": {"batch_advantage_norm": False}}),
]


def both(configure, seed=0, **overrides):
    """A run whose steps overlap, and one that waits, each on a server of its own."""
    runs = []
    for overlap in ("exact", "off"):
        with Ordered(seed) as server:
            runs.append(train(configure(server, overlap, **overrides, **{OVERLAP: overlap})))
    return runs


@pytest.mark.slow
@pytest.mark.parametrize(("advantage", "transform", "others"), RULES)
def test_every_rule_trains_as_if_it_had_waited(configure, advantage, transform, others):
    rule = {"algorithm.advantage_mode": advantage, "algorithm.transform_mode": transform}
    assert_same_runs(*both(configure, **rule, **others, **{"training.max_steps": 2}))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_arrival_does_not_matter(configure, seed):
    overlapping, waiting = both(configure, seed)
    assert_same_runs(overlapping, waiting)
    assert not missing_evidence(overlapping.run_dir)
    for row in read_metrics(overlapping.run_dir):
        assert row["rollout_wait_s"] == row["sample_s"] > 0 <= row["engine_wait_s"]
        assert row["train_s"] > 0


@pytest.mark.slow
def test_log_probs_that_the_trainer_computes(configure):
    """In the thread that collects completions, while groups are trained."""
    rescored = {"training.temperature": 0.8, "inference.logprobs": "trainer"}
    overlapping, waiting = both(configure, **rescored)
    assert_same_runs(overlapping, waiting)
    [row] = read_metrics(overlapping.run_dir)
    assert row["rescore_s"] > 0
    assert row["mean_abs_logprob_diff"] < 1e-6


@dataclass
class Watched:
    """A trainer that calls `begun` before a step, and `added` after each part of one."""

    trainer: LocalTrainer
    begun: Callable[[], None]
    added: Callable[[], None]

    def accumulate(self):
        self.begun()
        return WatchedStep(self.trainer.accumulate(), self.added)


@dataclass
class WatchedStep:
    step: GradientParts
    added: Callable[[], None]

    def add(self, part):
        self.step.add(part)
        self.added()

    def finish(self):
        return self.step.finish()


def watched(run, begun, added):
    trainer = Watched(run.backend.trainer, begun, added)
    return replace(run, overlap=Overlap(trainer, run.credit))


def test_a_group_is_trained_while_another_is_sampled(configure):
    with Ordered() as server, build(configure(server, "run")) as run:
        server.go.clear()  # the last group comes after the first was trained on
        ending = run_steps(watched(run, lambda: None, server.go.set))
    assert server.go.is_set()
    assert ending.finished


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_step_leaves_the_policy_as_it_was(configure, tmp_path):
    saved = []

    def save():
        directory = tmp_path / f"saved_{len(saved)}"
        directory.mkdir()
        run.backend.trainer.save(directory)
        saved.append((directory / "state.safetensors").read_bytes())

    def press_ctrl_c():
        if len(saved) == 2:
            signal.raise_signal(signal.SIGINT)

    with Ordered() as server, build(configure(server, "run", **{"training.max_steps": 2})) as run:
        ending = run_steps(watched(run, save, press_ctrl_c))
        save()
    assert (ending.state.steps_done, ending.finished) == (1, False)
    before, second, after = saved
    assert second == after != before
    assert len(read_metrics(tmp_path / "run")) == 1


def centred(tokens):
    """A transform that needs the whole step."""
    values = spread(tokens.advantages, tokens.batch.token_offsets)
    return values - tokens.uncertainty.mean()


WRONG = TransformSpec(centred, by_group=True)


def test_a_rule_that_needs_the_whole_step_after_all_ends_the_run(configure):
    with Ordered() as server:
        config = configure(server, "run", **{"algorithm.transform_mode": f"{__name__}:WRONG"})
        with pytest.raises(
            RunError, match=r"^step 0: \[algorithm\] .* whole step, so groups cannot"
        ):
            train(config)
