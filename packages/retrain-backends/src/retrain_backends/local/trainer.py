"""The trainer: forward and backward passes in micro-batches, then AdamW on the flat adapter."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
    """Trains one adapter on one base model."""

    capabilities = TRAINER

    def __init__(self, base: BaseModel, adapter: Adapter, settings: OptimizerSettings) -> None:
        self.base, self.adapter, self.settings = base, adapter, settings
        self.version = 0  # of the adapter, counted in this process
        self.budget = settings.microbatch_tokens
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
        started = time.perf_counter()
        loss, new = self._within_memory(batch, self._passes)
        norm = float(self.adapter.gradient.norm())
        accumulated = time.perf_counter()
        if np.isfinite(loss) and np.isfinite(norm):
            self.optimizer.step()
            self.version += 1
        figures = policy_loss(
            new,
            batch.logprobs_t,
            batch.weighted_advantages_t,
            batch.trained_t,
            self._options(batch),
        )
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
                "forward_backward": accumulated - started,
                "optimizer": time.perf_counter() - accumulated,
            },
        )

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs of completions; adjacent ones with the same prompt share its forward pass."""
        batch = batch_to_score(prompts, completions, temperature)
        logprobs_t = self._within_memory(batch, self._score)
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

    def _within_memory(self, batch: TrainBatch, work: Callable[[TrainBatch], _T]) -> _T:
        """Call `work` with the batch; out of memory, halve the token budget and retry."""
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
        return score(self.base, batch, self._options(batch), self.budget)

    def _passes(self, batch: TrainBatch) -> tuple[float, Floats]:
        """Compute the gradient; returns the loss and the log-probs."""
        self.adapter.gradient.zero_()
        torch.manual_seed(int(stream(batch.seed, Purpose.DROPOUT, batch.step).integers(2**63)))
        return add_gradient(self.base, batch, self._options(batch), self.budget)

    def _options(self, batch: TrainBatch) -> LossOptions:
        """The bounds, with the sampler's temperature (1 for greedy decoding)."""
        return replace(self.settings.bounds, temperature=batch.temperature or 1.0)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or on the CPU (whose error has no own class)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
