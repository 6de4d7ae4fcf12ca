"""The local backend: samples and trains with PyTorch on this machine."""

from collections.abc import Sequence
from typing import Self

import torch

from retrain_backends.config import PolicySettings, read_backend_options
from retrain_backends.engines.build import engine_sampler
from retrain_backends.engines.exact_prompts import ExactPrompts
from retrain_backends.engines.sampler import EngineSampler
from retrain_backends.errors import ConfigError
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.declaration import BACKEND
from retrain_backends.local.decoding import DEFAULT, decoding_on
from retrain_backends.local.devices import is_gpu, is_split, parse_devices, pick_dtype
from retrain_backends.local.options import LocalOptions
from retrain_backends.local.quantization import WEIGHTS, quantize
from retrain_backends.local.sampler import PytorchSampler
from retrain_backends.local.self_test import self_test
from retrain_backends.local.served_policy import ServedPolicy
from retrain_backends.local.sizes import model_sizes, refuse_sizes
from retrain_backends.local.trainer import LocalTrainer, OptimizerSettings
from retrain_backends.tokenizer import resolve_model
from retrain_backends.types import Usage


class LocalBackend:
    """One policy: a frozen base model with a LoRA adapter, and its trainer and sampler.

    In split mode the sampler has its own copy of model and adapter on another device, and with
    quantised weights on any; an engine other than `pytorch` has the model itself, and gets every
    version of the adapter.
    """

    capabilities = BACKEND.capabilities

    def __init__(
        self, trainer: LocalTrainer, sampler: PytorchSampler | EngineSampler | ExactPrompts
    ) -> None:
        self.trainer = trainer
        self.sampler = sampler

    @classmethod
    def from_config(cls, settings: PolicySettings) -> Self:
        """Load the model and initialise the adapter."""
        options = read_backend_options(LocalOptions, settings.backend.options)
        if options.threads:
            torch.set_num_threads(options.threads)
        devices = settings.backend.devices
        sample_on, train_on = parse_devices(devices)
        served = settings.inference.engine != "pytorch"
        if settings.inference.determinism == "tokens" and not served and is_gpu(sample_on):
            raise ConfigError(
                "inference.determinism: `tokens` cannot be had from `pytorch` on a GPU, whose"
                " kernels sum in another order in another batch; use `vllm`, backend.devices ="
                ' "cpu", or set it to off'
            )
        decoding = DEFAULT if served else decoding_on(sample_on, settings.inference)
        quantized = settings.inference.dtype in WEIGHTS and not served
        copied = quantized or (is_split(devices) and not served)
        _check_sizes(settings, [sample_on, train_on] if copied else [train_on])
        trained = _policy(settings, train_on)
        base, adapter = _policy(settings, sample_on) if copied else trained
        optimizer = OptimizerSettings(
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            beta1=settings.optimizer.beta1,
            beta2=settings.optimizer.beta2,
            eps=settings.optimizer.eps,
            bounds=settings.loss,
            microbatch_tokens=options.microbatch_tokens,
            gradient_checkpointing=options.gradient_checkpointing,
        )
        trainer = LocalTrainer(*trained, optimizer)
        self_test(trained, (base, adapter), options.microbatch_tokens, decoding.kernel)
        if quantized:
            quantize(base, settings.inference.dtype)
        if served:
            vocabulary = base.model.get_input_embeddings().weight.shape[0]
            served_by = engine_sampler(settings, trainer, ServedPolicy(trainer), vocabulary)
            trainer.before_step = served_by.rest
            return cls(trainer, served_by)
        sampler = PytorchSampler(
            base,
            adapter,
            trained[1],
            settings.completions_a_step,
            share_prompts=settings.inference.prefix_caching,
            decoding=decoding,
        )
        return cls(trainer, sampler)

    def usage(self) -> Usage:
        """The times of the engine; nothing is charged on a local machine."""
        return self.sampler.usage()

    def close(self) -> None:
        """Detach the adapters; memory is freed with the objects."""
        self.trainer.base.attach(None)
        self.sampler.close()


def _check_sizes(settings: PolicySettings, devices: Sequence[torch.device]) -> None:
    model = settings.model.model
    sizes = model_sizes(resolve_model(model), model)
    refuse_sizes(sizes, settings, pick_dtype(settings.inference.dtype, devices[0]), devices)


def _policy(settings: PolicySettings, device: torch.device) -> tuple[BaseModel, Adapter]:
    """The base model on a device, with a new adapter attached."""
    base = BaseModel(
        resolve_model(settings.model.model),
        settings.model.model,
        device,
        pick_dtype(settings.inference.dtype, device),
    )
    adapter = Adapter(
        base.projections,
        rank=settings.model.lora_rank,
        alpha=settings.lora.alpha or 2 * settings.model.lora_rank,
        dropout=settings.lora.dropout,
        seed=settings.seed,
        device=device,
    )
    base.attach(adapter)
    return base, adapter
