"""The local backend: sample and train with PyTorch on this machine."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file

from retrain_backends.config import RunConfig, read_backend_options
from retrain_backends.errors import RunError
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.decode import sample_groups
from retrain_backends.local.devices import (
    determinism,
    gpu_name,
    is_gpu,
    is_split,
    parse_devices,
    pick_dtype,
)
from retrain_backends.local.files import write_tensors
from retrain_backends.local.options import LocalOptions
from retrain_backends.local.packing import batch_to_score
from retrain_backends.local.trainer import OptimizerSettings, Trainer, is_out_of_memory
from retrain_backends.tokenizer import resolve_model
from retrain_backends.types import (
    BackendFacts,
    Capabilities,
    CheckpointRef,
    Completion,
    Floats,
    OnGroup,
    Restored,
    SamplingParams,
    StepResult,
    Tokens,
    TrainBatch,
    Usage,
)

log = logging.getLogger(__name__)

_STATE = "state.safetensors"
_BUDGET = "microbatch_tokens"  # as configured, and as it is now


class LocalBackend:
    """One policy: a frozen base model with a LoRA adapter, sampled from and trained.

    In split mode the sampler is a second copy of model and adapter on another device; the adapter's
    weights are copied over before each round of sampling.
    """

    capabilities = Capabilities(entropy=True, lora_alpha=True, resume="exact")

    def __init__(
        self,
        trainer: Trainer,
        sampler: BaseModel,
        sampler_adapter: Adapter,
        *,
        share_prompts: bool = True,
    ) -> None:
        self.trainer = trainer
        self.sampler = sampler
        self.sampler_adapter = sampler_adapter
        self._share_prompts = share_prompts
        self._prompts_at_once: int | None = None

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """Load the model and draw the adapter that the configuration describes."""
        options = read_backend_options(LocalOptions, config.backend.options)
        if options.threads:
            torch.set_num_threads(options.threads)
        sample_on, train_on = parse_devices(config.backend.devices)

        trained = _policy(config, train_on)
        sampled = _policy(config, sample_on) if is_split(config.backend.devices) else trained
        settings = OptimizerSettings(
            lr=config.training.lr,
            weight_decay=config.training.weight_decay,
            beta1=config.optimizer.beta1,
            beta2=config.optimizer.beta2,
            eps=config.optimizer.eps,
            bounds=config.algorithm.loss_options(),
            microbatch_tokens=options.microbatch_tokens,
            gradient_checkpointing=options.gradient_checkpointing,
        )
        return cls(
            Trainer(*trained, settings),
            *sampled,
            share_prompts=config.inference.prefix_caching,
        )

    def sample(
        self,
        prompts: Sequence[Tokens],
        params: SamplingParams,
        on_group: OnGroup | None = None,
    ) -> list[list[Completion]]:
        """Sample groups; when memory runs out, fewer prompts at a time, to the same result."""
        if self.sampler_adapter is not self.trainer.adapter:
            self.sampler_adapter.copy_from(self.trainer.adapter)
        groups: list[list[Completion]] = []
        announced: set[int] = set()  # what is sampled again is not announced again

        def announce(index: int, group: Sequence[Completion]) -> None:
            place = len(groups) + index
            if on_group and place not in announced:
                announced.add(place)
                on_group(place, group)

        with self.sampler.merged():
            while len(groups) < len(prompts):
                first = len(groups)
                some = prompts[first:][: self._prompts_at_once]
                try:
                    groups += sample_groups(
                        self.sampler,
                        some,
                        params.first_prompt + first,
                        params,
                        share_prompts=self._share_prompts,
                        on_group=announce if on_group else None,
                    )
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    self._sample_fewer(len(some), params)
        return groups

    def _sample_fewer(self, prompts: int, params: SamplingParams) -> None:
        if prompts == 1:
            raise RunError(
                f"step {params.step}: out of memory sampling a single group: lower"
                " training.group_size or training.max_tokens"
            )
        self._prompts_at_once = prompts // 2
        log.warning("out of memory: sampling %d prompts at a time", self._prompts_at_once)
        if self.sampler.device.type == "cuda":
            torch.cuda.empty_cache()

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs by the trainer's forward pass; neighbours with the same prompt share it."""
        batch = batch_to_score(prompts, completions, temperature)
        return np.split(self.trainer.score(batch), batch.token_offsets_n[1:-1])

    def train_step(self, batch: TrainBatch) -> StepResult:
        """One optimiser step."""
        return self.trainer.step(batch)

    def save(self, directory: Path) -> CheckpointRef:
        """Write adapter weights and optimiser state as one safetensors file.

        The token budget goes with them: it is lower than asked for once memory has run out, and
        another split into micro-batches rounds otherwise.
        """
        state = self.trainer.optimizer.state.get(self.trainer.parameter, {})
        tensors = {
            "weights": self.trainer.adapter.weights,
            _BUDGET: torch.tensor([self.trainer.settings.microbatch_tokens, self.trainer.budget]),
            **state,
        }
        write_tensors({name: t.detach().cpu() for name, t in tensors.items()}, directory / _STATE)
        return CheckpointRef(directory)

    def load(self, ref: CheckpointRef) -> Restored:
        """Continue from `save`, bit for bit on the CPU."""
        tensors = load_file(ref.directory / _STATE)
        asked_for, budget = tensors.pop(_BUDGET).tolist()
        if asked_for == self.trainer.settings.microbatch_tokens:
            self.trainer.budget = budget
        self.trainer.adapter.weights.copy_(tensors.pop("weights"))
        device = self.trainer.adapter.weights.device
        state = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.trainer.optimizer.state[self.trainer.parameter].update(state)
        return Restored("exact", "weights and optimiser are read back byte for byte")

    def export_adapter(self, directory: Path) -> str:
        """Write a PEFT directory."""
        self.trainer.adapter.export(directory, self.trainer.base.name)
        return str(directory)

    def describe(self) -> BackendFacts:
        """PyTorch, the GPUs that are used, and what arithmetic on them promises."""
        devices = tuple(dict.fromkeys([self.sampler.device, self.trainer.base.device]))
        level, reason = determinism(devices)
        return BackendFacts("pytorch", tuple(map(gpu_name, filter(is_gpu, devices))), level, reason)

    def usage(self) -> Usage:
        """One's own machine is not charged for."""
        return Usage()

    def close(self) -> None:
        """Detach the adapters; memory goes with the objects."""
        self.trainer.base.attach(None)
        self.sampler.attach(None)


def _policy(config: RunConfig, device: torch.device) -> tuple[BaseModel, Adapter]:
    """The base model on a device, with a new adapter attached."""
    base = BaseModel(
        resolve_model(config.model.model),
        config.model.model,
        device,
        pick_dtype(config.inference.dtype, device),
    )
    adapter = Adapter(
        base.projections,
        rank=config.model.lora_rank,
        alpha=config.lora.alpha or 2 * config.model.lora_rank,
        dropout=config.lora.dropout,
        seed=config.training.seed,
        device=device,
    )
    base.attach(adapter)
    return base, adapter
