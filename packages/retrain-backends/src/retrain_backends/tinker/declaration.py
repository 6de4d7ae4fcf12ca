"""What the Tinker backend can do, readable without importing its SDK."""

from retrain_backends.declared import DeclaredBackend
from retrain_backends.types import Capabilities, SamplerCapabilities, TrainerCapabilities

TRAINER = TrainerCapabilities(
    lora_alpha=False, lora_dropout=False, resume="approximate", temperature=False
)
SAMPLER = SamplerCapabilities(entropy=False)
BACKEND = DeclaredBackend(
    Capabilities(TRAINER, SAMPLER), "retrain_backends.tinker.backend:TinkerBackend", "tinker"
)
