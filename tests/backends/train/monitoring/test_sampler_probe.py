"""Engines with one defect each are recognised and named."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from retrain_backends.engines.logprob_kind import DEFECTS
from retrain_backends.errors import RunError
from retrain_backends.fake import FakeBackend, FakeOptions, FakeTraining
from retrain_backends.randomness import Purpose
from retrain_backends.testing import GroupSampling
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train as train_run
from retrain_backends.train.monitoring.sampler_probe import SamplerProbe
from retrain_backends.types import Completion, SamplingParams, TrainBatch, Verdict

PROMPTS = [np.array([3, 1, 4]), np.array([1, 5, 9])]
VOCABULARY = 13  # that of the tokenizer of `model_dir`
SAMPLING = GroupSampling(11, 2, 20, SamplingParams(temperature=0.7, stop_token_ids=(0,)))


class Changed(FakeBackend):
    """Returns other completions than it sampled."""

    def change(self, row, prompt_T):
        raise NotImplementedError

    def sample(self, requests, params):
        for index, group in super().sample(requests, params):
            yield index, [self.change(row, requests[index].prompt_T) for row in group]


class Raw(Changed):
    """Samples at the temperature, and returns log-probs at temperature 1."""

    def change(self, row, prompt_T):
        return replace(row, logprobs_T=self.score([prompt_T], [row.tokens_T], 1.0)[0])


class TopK(FakeBackend):
    """Samples from the three likeliest tokens, and returns their log-probs among these."""

    def sample(self, requests, params):
        everything = self._logits
        third = np.sort(everything, axis=-1)[..., -3, None]
        self._logits = np.where(everything >= third, everything, -1e9)
        try:
            return super().sample(requests, params)
        finally:
            self._logits = everything


class Shifted(Changed):
    """Returns the neighbours of the tokens that it sampled."""

    def change(self, row, prompt_T):
        return replace(row, tokens_T=(row.tokens_T + 1) % 13)


class LargerVocabulary(Changed):
    """Returns ids that the tokenizer does not have."""

    def change(self, row, prompt_T):
        return replace(row, tokens_T=row.tokens_T + 1000)


class Misaligned(Changed):
    """Loses the log-prob of the last token."""

    def change(self, row, prompt_T):
        return replace(row, logprobs_T=row.logprobs_T[:-1])


class Blurred(FakeBackend):
    """Samples from weights that are nearly those of the trainer."""

    def sample(self, requests, params):
        exact = self._logits
        self._logits = exact + 0.3 * np.cos(np.arange(exact.size)).reshape(exact.shape)
        try:
            return super().sample(requests, params)
        finally:
            self._logits = exact


class Stale(FakeBackend):
    """Samples from the weights that it began with."""

    def sample(self, requests, params):
        trained, self._logits = self._logits, self._first
        try:
            return super().sample(requests, params)
        finally:
            self._logits = trained

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self._first = self._logits.copy()


class Unseeded(FakeBackend):
    """Draws new numbers at every call, as a server does that takes no seed."""

    calls = 0

    def sample(self, requests, params):
        self.calls += 1
        unseeded = [replace(r, key=replace(r.key, seed=self.calls)) for r in requests]
        return super().sample(unseeded, params)


class UnseededStale(Unseeded, Stale):
    """Draws new numbers, always from the weights that it began with."""


class Certain(FakeBackend):
    """Knows each token for sure, so that no kind of log-prob differs from another."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self._logits = 50 * (self._logits == self._logits.max(axis=-1, keepdims=True))


class AtOne(FakeBackend):
    """Its trainer knows temperature 1 only; its sampler tempers its log-probs."""

    capabilities = replace(
        FakeBackend.capabilities,
        trainer=replace(FakeBackend.capabilities.trainer, temperature=False),
    )

    def score(self, prompts, completions, _temperature):
        return super().score(prompts, completions, 1.0)

    def train(self, batch):
        return replace(super().train(replace(batch, temperature=1.0)), grad_norm=None)


class RawAtOne(Raw, AtOne):
    """The same, with log-probs at temperature 1."""


class TopKAtOne(TopK, AtOne):
    """The same, from a truncated distribution."""


class ShiftedAtOne(Shifted, AtOne):
    """The same, with the neighbours of the tokens that it sampled."""


class BlurredAtOne(Blurred, AtOne):
    """The same, from other weights."""


class CertainAtOne(Certain, AtOne):
    """The same, certain of every token."""


class StaleAtOne(Stale, AtOne):
    """The same, always from the weights that it began with."""


def make(kind: type[FakeBackend], lr: float = 0.2) -> FakeBackend:
    options = FakeOptions(vocab_size=VOCABULARY, positions=16)
    return kind(options, FakeTraining(lr=lr), seed=2)


@pytest.fixture
def probe(model_dir):
    """`probe(backend)`: a probe of its sampler."""
    tokenizer = load_tokenizer(str(model_dir))
    return lambda backend: SamplerProbe(backend, tokenizer, PROMPTS, SAMPLING, 0)


def train(backend: FakeBackend) -> None:
    """One step on other completions than those of the probe, of the same prompts."""
    requests = SAMPLING.requests(PROMPTS, Purpose.SAMPLE, 0)
    rows = [
        row for _, group in FakeBackend.sample(backend, requests, SAMPLING.params) for row in group
    ]
    lengths = [len(row.tokens_T) for row in rows]
    backend.train(
        TrainBatch(
            prompts=PROMPTS,
            group_offsets_g=np.array([0, 2, 4]),
            token_offsets_n=np.concatenate([[0], np.cumsum(lengths)]),
            tokens_t=np.concatenate([row.tokens_T for row in rows]),
            logprobs_t=np.concatenate([row.logprobs_T for row in rows]),
            advantages_t=np.repeat([1.0, -1.0, 1.0, -1.0], lengths),
            trained_t=np.ones(sum(lengths), np.bool_),
            temperature=SAMPLING.params.temperature,
            step=0,
            seed=0,
        )
    )


@pytest.mark.parametrize(
    ("kind", "logprobs", "defects"),
    [
        (FakeBackend, "tempered", ()),
        (Raw, "raw", ("raw_logprobs",)),
        (TopK, "truncated", ("truncated_logprobs",)),
        (Shifted, "unexplained", ("wrong_ids",)),
        (LargerVocabulary, "unexplained", ("unknown_ids",)),
        (Misaligned, "unexplained", ("misaligned",)),
        (Blurred, "unexplained", ("other_policy",)),
        (Certain, "undecided", ()),
        (AtOne, "tempered", ()),
        (RawAtOne, "raw", ()),
        (TopKAtOne, "truncated", ("truncated_logprobs",)),
        (ShiftedAtOne, "unexplained", ("wrong_ids",)),
        (BlurredAtOne, "unexplained", ("other_policy",)),
        (CertainAtOne, "undecided", ()),
    ],
)
def test_a_defect_is_named(probe, kind, logprobs, defects):
    result = probe(make(kind)).run()
    assert (result.logprobs, result.defects) == (logprobs, defects)
    assert set(defects) <= set(DEFECTS)
    assert result.tokens > 40


def probe_of(backend, directory):
    return SamplerProbe(backend, load_tokenizer(str(directory)), PROMPTS, SAMPLING, 0).run()


def make_padded(kind) -> FakeBackend:
    """A backend with many more logits than the tokenizer has tokens."""
    options = FakeOptions(vocab_size=1000, positions=16)
    return kind(options, FakeTraining(lr=0.2), seed=2)


@pytest.fixture
def padded_dir(model_dir, tmp_path):
    directory = tmp_path / "padded"
    shutil.copytree(model_dir, directory)
    (directory / "config.json").write_text('{"vocab_size": 1000}')
    return directory


@pytest.mark.parametrize(
    ("kind", "logprobs", "defects"),
    [
        (FakeBackend, "tempered", ()),
        (AtOne, "tempered", ()),
        (Raw, "raw", ("raw_logprobs",)),
        (LargerVocabulary, "unexplained", ("unknown_ids",)),
    ],
)
def test_a_padded_vocabulary_is_no_defect(padded_dir, kind, logprobs, defects):
    result = probe_of(make_padded(kind), padded_dir)
    assert (result.logprobs, result.defects) == (logprobs, defects)


@pytest.mark.parametrize(
    ("kind", "defects"),
    [(FakeBackend, ()), (Blurred, ("other_policy", "no_round_trip"))],
)
def test_ambiguous_texts_are_a_defect_only_if_the_log_probs_do_not_agree(tmp_path, kind, defects):
    symbols = ["<end>", "<unknown>", *"abcdefghijK"]  # an encoded text has no `K`
    words = {symbol: index for index, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.WordLevel(words, "<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unknown>"
    ).save_pretrained(str(tmp_path))
    assert probe_of(make(kind), tmp_path).defects == defects


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("kind", "logprobs"),
    [
        (FakeBackend, "tempered"),
        (Raw, "raw"),
        (TopK, "truncated"),
        (AtOne, "tempered"),
        (RawAtOne, "raw"),
        (TopKAtOne, "truncated"),
        (ShiftedAtOne, "unexplained"),
        (BlurredAtOne, "unexplained"),
    ],
)
def test_whatever_was_sampled(model_dir, kind, logprobs, seed):
    tokenizer = load_tokenizer(str(model_dir))
    looked = SamplerProbe(make(kind), tokenizer, PROMPTS, replace(SAMPLING, seed=seed), 0).run()
    assert looked.logprobs == logprobs


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (FakeBackend, "active"),
        (Stale, "inactive"),
        (Raw, "active"),
        (Unseeded, "active"),
        (UnseededStale, "inactive"),
        (AtOne, "active"),
        (RawAtOne, "active"),
        (StaleAtOne, "inactive"),
    ],
)
def test_whether_the_adapter_is_used_shows_after_a_step(probe, kind, use):
    backend = make(kind)
    watched = probe(backend)
    watched.run()
    assert watched.adapter_use() == "undecided"
    train(backend)
    assert watched.adapter_use() == use


def test_an_adapter_that_has_not_moved_is_undecided(probe):
    backend = make(Stale, lr=0.0)
    watched = probe(backend)
    watched.run()
    train(backend)
    assert watched.adapter_use() == "undecided"


def test_a_diverged_policy_leaves_its_adapter_undecided(probe):
    backend = make(FakeBackend)
    watched = probe(backend)
    watched.run()
    backend._logits[:] = np.nan
    assert watched.adapter_use() == "undecided"


def test_before_the_probe_has_run_nothing_is_known(probe):
    assert probe(make(FakeBackend)).adapter_use() == "undecided"


def test_ids_that_the_tokenizer_cuts_otherwise_are_counted(model_dir, probe):
    assert probe(make(FakeBackend)).run().round_trip_share == 1.0


class Listening(FakeBackend):
    """Notes what it is asked for."""

    def sample(self, requests, params):
        self.heard = [*getattr(self, "heard", []), (requests, params)]
        return super().sample(requests, params)


def test_a_probe_leaves_the_streams_of_training_alone(probe):
    backend = make(Listening)
    probe(backend).run()
    requests = [request for asked, _ in backend.heard for request in asked]
    assert {request.key.purpose for request in requests} == {Purpose.PROBE}
    assert {params.temperature for _, params in backend.heard} == {0.2, 1.0}
    assert max(request.max_tokens * len(request.samples) for request in requests) <= 32


def test_an_empty_answer_decides_nothing(probe):
    class Silent(FakeBackend):
        def sample(self, requests, params):
            nothing = Completion(np.empty(0, np.int64), np.empty(0), "stop")
            yield from ((index, [nothing] * len(r.samples)) for index, r in enumerate(requests))

    watched = probe(make(Silent))
    assert watched.run().logprobs == "undecided"
    assert watched.adapter_use() == "undecided"


@pytest.mark.parametrize("kind", [FakeBackend, AtOne])
def test_a_service_that_does_not_answer_decides_nothing(probe, kind):
    class Deaf(kind):
        deaf = True

        def sample(self, requests, params):
            return (row for row in super().sample(requests, params) if not self.deaf)

    backend = make(Deaf)
    watched = probe(backend)
    result = watched.run()
    assert (result.logprobs, result.defects) == ("undecided", ())
    backend.deaf = False
    watched.run()
    train(backend)
    backend.deaf = True
    assert watched.adapter_use() == "undecided"


class EveryOther:
    """1 for every second completion."""

    def score(self, items):
        return [Verdict(float(index % 2)) for index in range(len(items))]


@pytest.mark.parametrize(
    ("kind", "temperature", "logprobs", "words", "ratio"),
    [
        (AtOne, 0.5, "tempered", "the ratio corrects for the temperature", False),
        (RawAtOne, 0.5, "raw", "ratios start at 1, but the completions are sampled at", True),
        (AtOne, 1.0, "tempered", None, True),
        (FakeBackend, 0.5, "tempered", None, True),
    ],
)
def test_the_consequence_is_printed_once_and_recorded(
    make_config, capsys, kind, temperature, logprobs, words, ratio
):
    summary = train_run(
        make_config(
            {
                "backend.backend": f"{__name__}:{kind.__name__}",
                "backend.options": {"vocab_size": 13, "positions": 16},
                "reward.type": f"{__name__}:EveryOther",
                "training.temperature": temperature,
                "training.max_tokens": 12,
                "training.max_steps": 3,
                "training.lr": 1e-9,
                "health.stop_logprob_diff": 0.05,
                "health.stop_ratio_p99": 1.5,
                "health.stop_kl_k3": 0.05,
            }
        )
    )
    probed = json.loads((summary.run_dir / "metadata.json").read_text())["probe"]
    said = capsys.readouterr().out
    assert (probed["logprobs"], probed["defects"]) == (logprobs, [])
    if words is None:
        assert "consequence" not in probed
    else:
        assert words in probed["consequence"]
        assert f"at temperature {temperature}" in probed["consequence"]
        assert said.count(probed["consequence"]) == 1
    rows = read_metrics(summary.run_dir)
    assert len(rows) == 3
    assert all((row["mean_abs_logprob_diff"] < 1e-6) == ratio for row in rows)
    mismatch = {"logprob_diff", "ratio_p99", "kl_k3"}
    assert not [row for row in rows if mismatch & set(row["health_warnings"])]


def test_a_raw_engine_that_is_not_the_trainer_is_still_watched(make_config):
    class_name = f"{__name__}:RawAndStale"
    with pytest.raises(RunError, match="log-probs of sampler and trainer differ"):
        train_run(
            make_config(
                {
                    "backend.backend": class_name,
                    "backend.options": {"vocab_size": 13, "positions": 16, "buckets": 1},
                    "reward.type": f"{__name__}:EveryOther",
                    "training.temperature": 0.5,
                    "training.max_tokens": 12,
                    "training.max_steps": 9,
                    "health.stop_logprob_diff": 0.05,
                }
            )
        )


class RawAndStale(Raw, Stale, AtOne):
    """Samples from its first weights, with their log-probs at temperature 1."""

    def change(self, row, prompt_T):
        trained, self._logits = self._logits, self._first
        try:
            return super().change(row, prompt_T)
        finally:
            self._logits = trained
