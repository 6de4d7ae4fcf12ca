"""Measures how exactly a service continues from a saved state, since it need not report that.

The policy is recognised by the log-probs that it gave some completions when it was saved. The
optimiser is tested in a second trainer, restored from the same state and discarded afterwards: it
takes a step with a gradient of 0. AdamW with restored running means moves the weights, a new one
does not.
"""

import tinker

from retrain_backends.errors import RetrainError, RunError
from retrain_backends.tinker.datums import datums_without_gradient
from retrain_backends.tinker.saved import SavedTrainer
from retrain_backends.tinker.service import Service
from retrain_backends.tinker.usage import UsageMeter
from retrain_backends.types import Floats, Restored

_SAME = 1e-5  # nats: float32 arithmetic, repeated
_ROUNDED = 0.05  # nats: bfloat16 arithmetic in other batches
_PROBE_LR = 1e-2  # moves every weight by about that much, far more than rounding


def measure(
    service: Service, saved: SavedTrainer, scores: list[Floats], usage: UsageMeter
) -> Restored:
    """Compare a restored trainer with the one that was saved.

    Args:
      service: of both trainers.
      saved: the record of the one that was saved.
      scores: the restored trainer's log-probs of the completions of `saved.reference`.
      usage: counts the tokens of testing the optimiser.

    Raises:
      RunError: it is another policy.
    """
    if not saved.updates:
        return Restored("exact", "nothing had been trained")
    distance = saved.reference.distance(scores)
    if distance > _ROUNDED:
        raise RunError(
            f"{service.endpoint}: {saved.path} is not the policy that was saved: its log-probs"
            f" differ by {distance:.3g} nats a token; start a new run by leaving out --resume"
        )
    policy = f"the log-probs of the saved policy differ by {distance:.1g} nats a token"
    try:
        moved = _moved_by_momentum(service, saved, usage)
    except RetrainError as error:
        return Restored("approximate", f"{policy}; the optimiser could not be tested ({error})")
    if moved <= max(2 * distance, _SAME):
        return Restored(
            "cold", f"{policy}; a step without a gradient moves nothing: the optimiser is new"
        )
    kept = f"a step without a gradient moves them by {moved:.1g}, so the optimiser was restored"
    return Restored("exact" if distance <= _SAME else "approximate", f"{policy}; {kept}")


def _moved_by_momentum(service: Service, saved: SavedTrainer, usage: UsageMeter) -> float:
    """How far a step without a gradient moves the log-probs, nats."""
    prompts, completions = saved.reference.rows()
    other = service.saved_trainer(saved.path, with_optimizer=True)
    doing = "testing the restored optimiser"
    backward = other.forward_backward(
        datums_without_gradient(prompts, completions), "importance_sampling"
    )
    step = other.optim_step(tinker.AdamParams(learning_rate=_PROBE_LR))
    service.wait(backward, doing)
    service.wait(step, doing)
    scores = service.score(other, prompts, completions)
    usage.add(trained=2 * sum(map(len, [*prompts, *completions])))
    return saved.reference.distance(scores)
