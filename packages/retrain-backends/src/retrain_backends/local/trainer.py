"""The trainer: forward and backward passes in micro-batches, then AdamW on the flat adapter."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import load_file

from retrain_backends.errors import RunError
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.checkpointing import checkpoint_blocks
from retrain_backends.local.declaration import TRAINER
from retrain_backends.local.devices import facts_about
from retrain_backends.local.files import write_tensors
from retrain_backends.local.packing import batch_to_score, plan
from retrain_backends.local.passes import add_gradient, score
from retrain_backends.randomness import Purpose, stream
from retrain_backends.tokenizer import loadable_name
from retrain_backends.types import (
    CheckpointRef,
    Facts,
    Floats,
    Restored,
    StepResult,
    Tokens,
    TrainBatch,
)
from retrain_core import LossOptions, policy_loss

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_STATE = "state.safetensors"
_BUDGET = "microbatch_tokens"  # the configured and the current value


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of AdamW, and of the split into micro-batches."""

    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    bounds: LossOptions
    microbatch_tokens: int
    gradient_checkpointing: bool


class LocalTrainer:
    """Trains one adapter on one base model.

    Attributes:
      before_step: called before a training step with all completions.
    """

    capabilities = TRAINER

    def __init__(self, base: BaseModel, adapter: Adapter, settings: OptimizerSettings) -> None:
        self.base, self.adapter, self.settings = base, adapter, settings
        self.before_step: Callable[[], object] = lambda: None
        self.version = 0  # of the adapter, counted in this process
        self.budget = settings.microbatch_tokens
        self._lock = Lock()  # of model and gradient
        self.parameter = torch.nn.Parameter(adapter.weights)
        self.parameter.grad = adapter.gradient
        self.optimizer = torch.optim.AdamW(
            [self.parameter],
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        if settings.gradient_checkpointing:
            checkpoint_blocks(base.model, base.name)

    @property
    def facts(self) -> Facts:
        """PyTorch on the device of the model, and its determinism."""
        return facts_about(self.base.device)

    def train(self, batch: TrainBatch) -> StepResult:
        """Forward, backward and update; no update if loss or gradient are not finite."""
        self.before_step()
        step = GradientSum(self, num_tokens=max(1, int(batch.trained_t.sum())))
        step.add(batch)
        return step.finish()

    def accumulate(self) -> "GradientSum":
        """Start the gradient of a step whose completions come in parts."""
        return GradientSum(self)

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs of completions; adjacent ones with the same prompt share its forward pass."""
        batch = batch_to_score(prompts, completions, temperature)
        logprobs_t = self.within_memory(batch, self._score)
        return np.split(logprobs_t, batch.token_offsets_n[1:-1])

    def save(self, directory: Path) -> CheckpointRef:
        """Write adapter weights and optimiser state as one safetensors file.

        The token budget is saved too: it is lower than configured after running out of memory, and
        a different split into micro-batches changes rounding.
        """
        state = self.optimizer.state.get(self.parameter, {})
        tensors = {
            "weights": self.adapter.weights,
            _BUDGET: torch.tensor([self.settings.microbatch_tokens, self.budget]),
            **state,
        }
        write_tensors({name: t.detach().cpu() for name, t in tensors.items()}, directory / _STATE)
        return CheckpointRef(directory)

    def load(self, ref: CheckpointRef) -> Restored:
        """Restore what `save` wrote; bit for bit on the CPU."""
        tensors = load_file(ref.directory / _STATE)
        configured, budget = tensors.pop(_BUDGET).tolist()
        if configured == self.settings.microbatch_tokens:
            self.budget = budget
        self.adapter.weights.copy_(tensors.pop("weights"))
        self.version += 1
        device = self.adapter.weights.device
        state = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.optimizer.state[self.parameter].update(state)
        return Restored("exact", "weights and optimiser are restored byte for byte")

    def export_adapter(self, directory: Path) -> str:
        """Write a PEFT directory."""
        self.adapter.export(directory, loadable_name(self.base.name))
        return str(directory)

    def within_memory(self, batch: TrainBatch, work: Callable[[TrainBatch], _T]) -> _T:
        """Call `work` with the batch; out of memory, halve the token budget and retry.

        One call at a time: completions may be scored in another thread than the one that trains.
        """
        with self._lock:
            return self._within_memory(batch, work)

    def _within_memory(self, batch: TrainBatch, work: Callable[[TrainBatch], _T]) -> _T:
        while True:
            try:
                return work(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            if self.base.device.type == "cuda":
                torch.cuda.empty_cache()
            longest = max(len(rows) for rows in plan(batch, self.budget))
            if longest == 1:
                raise RunError(
                    f"step {batch.step}: out of memory with a single completion in the"
                    " micro-batch: lower training.max_tokens, or set"
                    " gradient_checkpointing = true in [backend.options]"
                )
            self.budget //= 2
            log.warning("out of memory: micro-batches of %d tokens from now on", self.budget)

    def _score(self, batch: TrainBatch) -> Floats:
        return score(self.base, batch, self.options(batch), self.budget)

    def options(self, batch: TrainBatch) -> LossOptions:
        """The bounds of the loss, with the sampler's temperature (1 for greedy decoding)."""
        return replace(self.settings.bounds, temperature=batch.temperature or 1.0)


class GradientSum:
    """The gradient of one step: of a whole batch, or of parts as they come.

    Args:
      trainer: of the policy.
      num_tokens: N of the loss. None: not known yet, so that the gradient is divided by it last.
    """

    def __init__(self, trainer: LocalTrainer, num_tokens: int | None = None) -> None:
        self._trainer = trainer
        self._num_tokens = num_tokens
        self._parts: list[TrainBatch] = []
        self._added: list[tuple[float, Floats]] = []  # loss and log-probs of parts in the gradient
        self._consistent = False  # whether the gradient is the sum of `_added`
        self._passes_s = 0.0

    def add(self, part: TrainBatch) -> None:
        """Add the gradient of a part; out of memory, all are added again."""
        started = time.perf_counter()
        self._parts.append(part)
        self._trainer.within_memory(part, self._passes)
        self._passes_s += time.perf_counter() - started

    def _passes(self, _part: TrainBatch) -> None:
        trainer, first = self._trainer, self._parts[0]
        if not self._consistent:
            self._added.clear()
            trainer.adapter.gradient.zero_()
            torch.manual_seed(int(stream(first.seed, Purpose.DROPOUT, first.step).integers(2**63)))
        self._consistent = False
        for part in self._parts[len(self._added) :]:
            options, num_tokens = trainer.options(part), self._num_tokens or 1
            self._added.append(
                add_gradient(trainer.base, part, options, trainer.budget, num_tokens)
            )
        self._consistent = True

    def finish(self) -> StepResult:
        """Take the optimiser step, unless loss or gradient are not finite."""
        started = time.perf_counter()
        trainer = self._trainer
        loss, gradient = sum(loss for loss, _ in self._added), trainer.adapter.gradient
        figures = policy_loss(
            np.concatenate([new_t for _, new_t in self._added]),
            np.concatenate([part.logprobs_t for part in self._parts]),
            np.concatenate([part.weighted_advantages_t for part in self._parts]),
            np.concatenate([part.trained_t for part in self._parts]),
            trainer.options(self._parts[0]),
        )
        if self._num_tokens is None:
            loss /= figures.num_tokens
            gradient /= figures.num_tokens
        norm = float(gradient.norm())
        accumulated = time.perf_counter()
        if np.isfinite(loss) and np.isfinite(norm):
            trainer.optimizer.step()
            trainer.version += 1
        return StepResult(
            loss=loss,
            num_tokens=figures.num_tokens,
            grad_norm=norm,
            mean_abs_logprob_diff=figures.mean_abs_logprob_diff,
            kl_k3=figures.kl_k3,
            ratio_p99=figures.ratio_p99,
            ratio_max=figures.ratio_max,
            clip_fraction=figures.clip_fraction,
            times_s={
                "forward_backward": self._passes_s + accumulated - started,
                "optimizer": time.perf_counter() - accumulated,
            },
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or on the CPU (whose error has no own class)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
