"""A bigram language model with a low-rank adapter, in numpy: what the test server trains.

    logits(next | prev) = E[prev] U + s A[prev] B            V tokens, rank r, s = 32 / r

E and U are the frozen base model, A and B are trained. Softmax, gradients and the Adam step are
exact, in float64, so that a test may compare them with finite differences.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ALPHA = 32
_BASE_RANK = 8


class LoraWeights(NamedTuple):
    """Trained weights, or gradients or moments of the same shapes."""

    a_VR: Floats
    b_RV: Floats

    @property
    def scale(self) -> float:
        """LoRA's alpha / rank, with the service's alpha of 32."""
        return ALPHA / len(self.b_RV)


class AdamSettings(NamedTuple):
    """The numbers of one `optim_step`; `grad_clip_norm` 0 means no clipping."""

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


class AdamState(NamedTuple):
    """Steps done and the running means of the gradient and of its square."""

    steps: int
    mean: LoraWeights
    square: LoraWeights


class Draw(NamedTuple):
    """How completions are drawn; `top_k` -1 and `top_p` 1 keep every token."""

    max_tokens: int
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0
    stop: frozenset[int] = frozenset()
    tempered: bool = True


class Drawn(NamedTuple):
    """A completion: its tokens, the stop token included, and their log-probs, shape [T]."""

    tokens_T: Ints
    logprobs_T: Floats
    stopped: bool


class BigramPolicy:
    """The frozen base model.

    Args:
      vocabulary: number of tokens V.
      seed: of the base model's weights.
      sharpness: standard deviation of its logits.
    """

    def __init__(self, vocabulary: int, seed: int, sharpness: float = 1.0) -> None:
        self.vocabulary = vocabulary
        rng = np.random.default_rng([seed, 0])
        width = (vocabulary, _BASE_RANK)
        self._e_VK = rng.standard_normal(width) * (sharpness / np.sqrt(_BASE_RANK))
        self._u_KV = rng.standard_normal(width).T

    @classmethod
    def from_factors(cls, e_VK: Floats, u_KV: Floats) -> Self:
        """A base model with these weights, such as those of another bigram model."""
        policy = cls(len(e_VK), seed=0)
        policy._e_VK, policy._u_KV = e_VK, u_KV
        return policy

    def logits(self, inputs_T: Ints, adapter: LoraWeights | None) -> Floats:
        """Logits of the token after each input, shape [T, V]; None is the base model."""
        logits_TV = self._e_VK[inputs_T] @ self._u_KV
        if adapter is not None:
            logits_TV += adapter.scale * (adapter.a_VR[inputs_T] @ adapter.b_RV)
        return logits_TV

    def logprobs(self, inputs_T: Ints, targets_T: Ints, adapter: LoraWeights | None) -> Floats:
        """Log-prob of each target after its input, at temperature 1, shape [T]."""
        return _picked(_log_softmax(self.logits(inputs_T, adapter)), targets_T)

    def gradient(
        self, inputs_T: Ints, targets_T: Ints, slope_T: Floats, adapter: LoraWeights
    ) -> LoraWeights:
        """Gradient of a loss by the adapter's weights.

        Args:
          inputs_T: input tokens, shape [T].
          targets_T: the tokens predicted there, shape [T].
          slope_T: the loss's derivative by each target's log-prob, shape [T].
          adapter: the weights where the gradient is taken.
        """
        # d log p(target) / d logits = onehot(target) - softmax
        slope_TV = -np.exp(_log_softmax(self.logits(inputs_T, adapter))) * slope_T[:, None]
        slope_TV[np.arange(len(targets_T)), targets_T] += slope_T
        a_TR = adapter.a_VR[inputs_T]
        grad_a_VR = np.zeros_like(adapter.a_VR)
        np.add.at(grad_a_VR, inputs_T, adapter.scale * (slope_TV @ adapter.b_RV.T))
        return LoraWeights(grad_a_VR, adapter.scale * (a_TR.T @ slope_TV))

    def sample(
        self, last: int, adapter: LoraWeights | None, draw: Draw, seeds: Iterable[int]
    ) -> Drawn:
        """One completion; its random numbers depend on the seeds only.

        Args:
          last: the prompt's last token.
          adapter: trained weights, or None for the base model.
          draw: how to draw; temperature 0 takes the likeliest token.
          seeds: (seed, index of the sample).
        """
        uniform_T = np.random.default_rng(list(seeds)).random(draw.max_tokens)
        tokens: list[int] = []
        logprobs: list[float] = []
        # A token depends on the one before it.
        for uniform in uniform_T:
            logits_V = self.logits(np.array([last]), adapter)[0]
            last = _choose(logits_V, draw, uniform)
            reported_V = logits_V / draw.temperature if _tempers(draw) else logits_V
            tokens.append(last)
            logprobs.append(_log_softmax(reported_V)[last])
            if last in draw.stop:
                break
        stopped = bool(tokens) and last in draw.stop
        return Drawn(np.array(tokens, np.int64), np.array(logprobs, np.float64), stopped)


def first_adapter(vocabulary: int, rank: int, seed: int) -> LoraWeights:
    """Initial weights: A random, with a part that all tokens share, and B zero."""
    a_VR = np.random.default_rng([seed, 1]).normal(0.5, 0.5, (vocabulary, rank))
    return LoraWeights(a_VR / np.sqrt(rank), np.zeros((rank, vocabulary)))


def zeros_like(adapter: LoraWeights) -> LoraWeights:
    """A gradient of zero."""
    return LoraWeights(np.zeros_like(adapter.a_VR), np.zeros_like(adapter.b_RV))


def add(left: LoraWeights, right: LoraWeights) -> LoraWeights:
    """The sum of two gradients."""
    return LoraWeights(left.a_VR + right.a_VR, left.b_RV + right.b_RV)


def gradient_norm(gradient: LoraWeights) -> float:
    """Euclidean norm over all weights."""
    return float(np.sqrt((gradient.a_VR**2).sum() + (gradient.b_RV**2).sum()))


def adam_step(
    adapter: LoraWeights, gradient: LoraWeights, state: AdamState, settings: AdamSettings
) -> tuple[LoraWeights, AdamState]:
    """One step of AdamW (arXiv 1711.05101): weight decay beside the gradient, bias corrected.

    A gradient whose norm is above `grad_clip_norm` is first scaled down to it.
    """
    norm = gradient_norm(gradient)
    limit = settings.grad_clip_norm
    shrink = limit / norm if 0 < limit < norm else 1.0
    steps = state.steps + 1
    weights, means, squares = [], [], []
    for weight, slope, old_mean, old_square in zip(
        adapter, gradient, state.mean, state.square, strict=True
    ):
        mean = settings.beta1 * old_mean + (1 - settings.beta1) * shrink * slope
        square = settings.beta2 * old_square + (1 - settings.beta2) * (shrink * slope) ** 2
        towards = (mean / (1 - settings.beta1**steps)) / (
            np.sqrt(square / (1 - settings.beta2**steps)) + settings.eps
        )
        weights.append(weight - settings.learning_rate * (towards + settings.weight_decay * weight))
        means.append(mean)
        squares.append(square)
    return LoraWeights(*weights), AdamState(steps, LoraWeights(*means), LoraWeights(*squares))


def _tempers(draw: Draw) -> bool:
    return draw.tempered and draw.temperature > 0


def _choose(logits_V: Floats, draw: Draw, uniform: float) -> int:
    if draw.temperature == 0:
        return int(logits_V.argmax())
    order_V = np.arange(len(logits_V))
    if draw.top_k > 0 or draw.top_p < 1:
        order_V = np.argsort(-logits_V, kind="stable")
    mass_V = np.cumsum(np.exp(_log_softmax(logits_V[order_V] / draw.temperature)))
    kept = len(order_V) if draw.top_k <= 0 else min(draw.top_k, len(order_V))
    if draw.top_p < 1:
        # The nucleus ends with the first token that reaches top_p.
        kept = min(kept, 1 + int(np.searchsorted(mass_V, draw.top_p)))
    place = np.searchsorted(mass_V[:kept], uniform * mass_V[kept - 1], "right")
    return int(order_V[min(int(place), kept - 1)])


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _picked(logprobs_TV: Floats, targets_T: Ints) -> Floats:
    return logprobs_TV[np.arange(len(targets_T)), targets_T]
