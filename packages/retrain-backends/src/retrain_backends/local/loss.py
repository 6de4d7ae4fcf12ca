"""The policy-gradient loss through the model's head, in chunks.

The loss needs the log-probability of one token per position, not the logits of the vocabulary. The
head is therefore applied to one chunk of positions at a time, and the chunk's gradient with respect
to the hidden states is computed at once: only the logits of one chunk are in memory, and nothing is
computed twice. `retrain_core.policy_loss` is the reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from retrain_backends.local.head import Head
from retrain_core import LossOptions

CHUNK_LOGITS = 1 << 24  # logits of one chunk, 64 MiB in float32


@dataclass(frozen=True)
class TrainedTokens:
    """The `m` trained tokens of a micro-batch; arrays have shape (m,).

    `logprobs` are those of the sampler, in nats. The loss is divided by `num_tokens`: N, the number
    of trained tokens of the whole step, or 1 as long as that is not known. `options` are the
    sampler's temperature and the bounds on the ratio.
    """

    targets: Tensor
    logprobs: Tensor
    advantages: Tensor
    num_tokens: int
    options: LossOptions


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, tokens):
        weight = head.layer.weight
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        new = torch.empty_like(tokens.logprobs)
        grad_hidden = torch.empty_like(hidden)
        temperature = tokens.options.temperature
        for part in _chunks(hidden, head):
            targets = tokens.targets[part, None]
            logits = head.logits(hidden[part])
            head_slope = head.slope(logits)
            logprobs = _logprobs(logits, temperature)
            new[part] = logprobs.gather(-1, targets)[:, 0]
            terms, slope = surrogate(
                new[part], tokens.logprobs[part], tokens.advantages[part], tokens.options
            )
            loss -= terms.sum(dtype=torch.float64) / tokens.num_tokens
            # d loss / d logits = -slope * (one_hot(target) - softmax) / (N * temperature)
            slope = slope[:, None] / (-tokens.num_tokens * temperature)
            grad_logits = logprobs.exp_().mul_(-slope).scatter_add_(-1, targets, slope)
            if head_slope is not None:
                grad_logits.mul_(head_slope)
            torch.mm(grad_logits.to(weight.dtype), weight, out=grad_hidden[part])
        ctx.save_for_backward(grad_hidden)
        ctx.mark_non_differentiable(new)
        return loss, new

    @staticmethod
    def backward(ctx, grad_loss, _grad_new):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_hidden,) = ctx.saved_tensors
        return grad_hidden * grad_loss.to(grad_hidden.dtype), None, None


def surrogate(
    new: Tensor, old: Tensor, advantages: Tensor, options: LossOptions
) -> tuple[Tensor, Tensor]:
    """Each token's term of the objective, and its derivative with respect to `new`, shape (m,).

    The term is `rho * a` with `rho = exp(new - old)`, bounded as in `retrain_core.policy_loss`; the
    derivative is 0 where the clipped branch is the smaller one.
    """
    ratio = torch.exp(new - old)
    if options.importance_cap is not None:
        capped = ratio.clamp_max(options.importance_cap) * advantages
        return capped, capped
    plain = ratio * advantages
    if options.clip_eps is None:
        return plain, plain
    high = options.clip_eps if options.clip_eps_high is None else options.clip_eps_high
    clipped = ratio.clamp(1 - options.clip_eps, 1 + high) * advantages
    return torch.minimum(plain, clipped), torch.where(plain <= clipped, plain, 0.0)


def head_logprobs(hidden: Tensor, head: Head, targets: Tensor, temperature: float) -> Tensor:
    """Log-probs of the targets without a gradient, shape (m,), float32.

    Args:
      hidden: last hidden states that predict the targets, shape (m, width).
      head: the output embedding.
      targets: token ids, shape (m,).
      temperature: of the sampler, > 0.
    """
    found = torch.empty(targets.shape, device=hidden.device)
    with torch.no_grad():
        for part in _chunks(hidden, head):
            logprobs = _logprobs(head.logits(hidden[part]), temperature)
            found[part] = logprobs.gather(-1, targets[part, None])[:, 0]
    return found


def _chunks(hidden: Tensor, head: Head) -> Iterator[slice]:
    rows = max(1, CHUNK_LOGITS // head.layer.weight.shape[0])
    return (slice(start, start + rows) for start in range(0, hidden.shape[0], rows))


def _logprobs(logits: Tensor, temperature: float) -> Tensor:
    """Log-softmax at the temperature, in place of the logits, shape (rows, vocabulary)."""
    logits.div_(temperature)
    return logits.sub_(logits.logsumexp(-1, keepdim=True))


def head_loss(hidden: Tensor, head: Head, tokens: TrainedTokens) -> tuple[Tensor, Tensor]:
    """Loss of the trained tokens, and their new log-probs.

    Args:
      hidden: last hidden states that predict the targets, shape (m, width).
      head: the output embedding.
      tokens: targets, old log-probs and advantages.

    Returns:
      The loss (scalar, float64; differentiable with respect to `hidden` only) and the new
      log-probs, shape (m,), float32.
    """
    return _HeadLoss.apply(hidden, head, tokens)  # pyright: ignore
