"""The self-test at load: the passes of sampling and training against those of transformers.

Two prompts and three completions of different lengths go through prefill, cached decoding and
packed training, with an adapter made for the test, and through the plain forward and backward pass
of the same weights (`plain_pass.py`). Windows of attention are shortened meanwhile, so that these
short texts exceed them.

In float32 the largest difference counts. In lower precision, rounding alone changes log-probs and
can send a token to other experts. There the median of tokens and of layers counts, and a second
plain pass, whose linear layers are rounded otherwise, measures what rounding explains.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from retrain_backends.errors import ConfigError, RetrainError, describe
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.architecture import unsupported
from retrain_backends.local.attention_kernels import AttentionKernel
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.decoding import Decoding
from retrain_backends.local.devices import is_gpu
from retrain_backends.local.passes import add_gradient
from retrain_backends.local.plain_pass import Outcome, plain_pass
from retrain_backends.local.sampler import PytorchSampler
from retrain_backends.randomness import Purpose, stream
from retrain_backends.types import Request, SamplingParams, StreamKey, TrainBatch
from retrain_core import LossOptions, offsets_from_lengths

_RANK = 2
_B = 0.02  # standard deviation of the test adapter's B; its outputs are a percent of the layer's
_EXPLAINED = 8  # times what rounding explains is tolerated
_SAMPLING = SamplingParams(temperature=1.0, stop_token_ids=())


class Tolerance(NamedTuple):
    """Of a log-prob in nats, and of a gradient relative to its norm."""

    logprob: float
    gradient: float


FLOAT32 = Tolerance(2e-3, 1e-2)
LOWER = Tolerance(0.1, 0.3)  # at least


@dataclass(frozen=True)
class Texts:
    """What is compared: the length of each prompt, and those of its completions.

    `window` is that of layers with a sliding window during the test; None leaves them alone.
    """

    prompts: Sequence[int] = (7, 4)
    completions: Sequence[Sequence[int]] = ((4, 2), (3,))
    window: int | None = 3


@dataclass(frozen=True)
class Difference:
    """What differs, by how much, and how much is tolerated: nats, or a share of a gradient."""

    what: str
    value: float
    tolerated: float
    unit: str = "nats"


def self_test(
    train: tuple[BaseModel, Adapter | None],
    sample: tuple[BaseModel, Adapter | None],
    budget: int,
    kernel: AttentionKernel | None = None,
) -> None:
    """Refuse a model, or a kernel for its attention, whose passes differ from plain ones.

    The adapters are attached again afterwards, and no random state has moved.

    Args:
      train: the trainer's model and adapter.
      sample: the sampler's.
      budget: input tokens of a micro-batch.
      kernel: of the sampler's attention; None for the default.

    Raises:
      ModelError: names the architecture and what differs, or the error that it caused.
      ConfigError: the same, with a kernel.
    """
    base = train[0]
    try:
        found = differences(base, sample[0], Texts(), budget, kernel)
    except RetrainError:
        raise
    except Exception as error:  # a border: the code of any architecture
        reason = f"its self-test failed with {describe(error)}"
        raise _refusal(base, kernel, reason) from error
    finally:
        for each, adapter in (train, sample):
            each.attach(adapter)
    for wrong in found:
        if not wrong.value <= wrong.tolerated:  # nan is wrong too
            reason = (
                f"{wrong.what} differs from the plain forward pass by {wrong.value:.2g}"
                f" {wrong.unit} (tolerated: {wrong.tolerated:.2g})"
            )
            raise _refusal(base, kernel, reason)


def _refusal(base: BaseModel, kernel: AttentionKernel | None, reason: str) -> RetrainError:
    if kernel is None:
        return unsupported(base.name, type(base.model), reason)
    return ConfigError(
        f"inference.attention_kernel: `{kernel.name}` cannot be used for model `{base.name}` on"
        f" {base.device}: {reason}; use `default`"
    )


def differences(
    train: BaseModel,
    sample: BaseModel,
    texts: Texts,
    budget: int,
    kernel: AttentionKernel | None = None,
) -> list[Difference]:
    """The difference of each kind of pass, and of the gradient of one layer."""
    precision = max(torch.finfo(base.dtype).eps for base in (train, sample))
    gpus = [base.device for base in (train, sample) if is_gpu(base.device)]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(gpus))
        stack.enter_context(_windows(train.model, texts.window))
        if sample is not train:
            stack.enter_context(_windows(sample.model, texts.window))
        batch = _sampled(sample, texts, Decoding(kernel))
        adapter = _adapter(train)
        train.attach(adapter)
        num_tokens = int(batch.trained_t.sum())
        _, logprobs_t = add_gradient(train, batch, LossOptions(), budget, num_tokens)
        trained = Outcome(logprobs_t, adapter.gradient_state())
        plain = plain_pass(train, adapter, batch, rounding=0)
        rounded = None
        if precision > torch.finfo(torch.float32).eps:
            rounded = plain_pass(train, adapter, batch, rounding=precision)
    return [*_of_logprobs(batch, trained, plain, rounded), _of_gradients(trained, plain, rounded)]


def _adapter(base: BaseModel) -> Adapter:
    adapter = Adapter(
        base.projections, rank=_RANK, alpha=_RANK, dropout=0.0, seed=0, device=base.device
    )
    noise = stream(0, Purpose.PROBE, 0).normal(0, _B, len(adapter.weights)).astype(np.float32)
    adapter.weights += torch.from_numpy(noise).to(base.device)
    return adapter


def _sampled(base: BaseModel, texts: Texts, decoding: Decoding) -> TrainBatch:
    """Sampled completions, cut to their lengths, with advantages of both signs."""
    adapter = _adapter(base)
    base.attach(adapter)
    # Rare tokens at both ends of the vocabulary may stand for images or padding.
    size = base.head.layer.weight.shape[0]
    tokens = stream(0, Purpose.PROBE, 1).integers(size // 4, size - size // 4, sum(texts.prompts))
    prompts = np.split(tokens, np.cumsum(texts.prompts)[:-1])
    requests = [
        Request(prompt, StreamKey(0, Purpose.PROBE, 2, index), range(len(lengths)), max(lengths))
        for index, (prompt, lengths) in enumerate(zip(prompts, texts.completions, strict=True))
    ]
    at_once = sum(map(len, texts.completions))
    sampler = PytorchSampler(base, adapter, adapter, at_once, decoding=decoding)
    groups = dict(sampler.sample(requests, _SAMPLING))
    rows = [
        (completion.tokens_T[:length], completion.logprobs_T[:length])
        for index, lengths in enumerate(texts.completions)
        for completion, length in zip(groups[index], lengths, strict=True)
    ]
    total = sum(map(sum, texts.completions))
    return TrainBatch(
        prompts=prompts,
        group_offsets_g=offsets_from_lengths([len(lengths) for lengths in texts.completions]),
        token_offsets_n=offsets_from_lengths([len(tokens_T) for tokens_T, _ in rows]),
        tokens_t=np.concatenate([tokens_T for tokens_T, _ in rows]),
        logprobs_t=np.concatenate([logprobs_T for _, logprobs_T in rows]),
        advantages_t=stream(0, Purpose.PROBE, 3).normal(size=total),
        trained_t=np.ones(total, dtype=np.bool_),
        temperature=1.0,
        step=0,
        seed=0,
    )


@contextmanager
def _windows(model: Any, window: int | None) -> Iterator[None]:
    """Shorten the windows of the layers, and of the configuration, which the plain masks follow."""
    parts = [*model.modules()]
    parts += {id(part.config): part.config for part in parts if hasattr(part, "config")}.values()
    with ExitStack() as stack:
        for part in parts:
            current = getattr(part, "sliding_window", None)
            if window is not None and isinstance(current, int):
                stack.callback(setattr, part, "sliding_window", current)
                part.sliding_window = min(window, current)
        yield


def _of_logprobs(
    batch: TrainBatch, trained: Outcome, plain: Outcome, rounded: Outcome | None
) -> Iterator[Difference]:
    first_t = np.zeros(len(batch.tokens_t), dtype=np.bool_)
    first_t[batch.token_offsets_n[:-1]] = True
    tolerated = FLOAT32.logprob
    if rounded is not None:
        explained = float(np.median(np.abs(rounded.logprobs_t - plain.logprobs_t)))
        tolerated = max(LOWER.logprob, _EXPLAINED * explained)
    for what, found_t, kind_t in (
        ("prefill", batch.logprobs_t, first_t),
        ("cached decoding", batch.logprobs_t, ~first_t),
        ("packed training", trained.logprobs_t, np.ones_like(first_t)),
    ):
        difference_t = np.abs(found_t - plain.logprobs_t)[kind_t]
        value = difference_t.max() if rounded is None else np.median(difference_t)
        yield Difference(what, float(value), tolerated)


def _of_gradients(trained: Outcome, plain: Outcome, rounded: Outcome | None) -> Difference:
    found = sorted((value, name) for name, value in _relative(trained, plain).items())
    value, name = found[-1 if rounded is None else len(found) // 2]
    tolerated = FLOAT32.gradient
    if rounded is not None:
        explained = float(np.median(list(_relative(rounded, plain).values())))
        tolerated = max(LOWER.gradient, _EXPLAINED * explained)
    layer = name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]
    return Difference(f"the gradient of {layer}", value, tolerated, "of its norm")


def _relative(found: Outcome, expected: Outcome) -> dict[str, float]:
    """Norms of the differences, relative to those expected.

    A norm below a hundredth of the average of its kind, A or B, counts as that.
    """
    norms = {name: float(gradient.norm()) for name, gradient in expected.gradient.items()}
    least = {
        kind: 0.01 * float(np.mean([norm for name, norm in norms.items() if kind in name]))
        for kind in (".lora_A.", ".lora_B.")
    }
    return {
        name: float((gradient - expected.gradient[name]).norm())
        / max(norms[name], *(least[kind] for kind in least if kind in name), 1e-30)
        for name, gradient in found.gradient.items()
    }
