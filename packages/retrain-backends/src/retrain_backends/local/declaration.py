"""Capabilities of the local backend, readable without importing torch."""

from retrain_backends.declared import DeclaredBackend
from retrain_backends.types import Capabilities, SamplerCapabilities, TrainerCapabilities

TRAINER = TrainerCapabilities(lora_alpha=True, lora_dropout=True, resume="exact", parts=True)
SAMPLER = SamplerCapabilities(entropy=True)
BACKEND = DeclaredBackend(
    Capabilities(TRAINER, SAMPLER), "retrain_backends.local.backend:LocalBackend", "torch"
)
