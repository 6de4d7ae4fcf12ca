"""The settings from which a backend is built."""

from dataclasses import dataclass

import retrain_core
from retrain_backends.config.compute import BackendConfig, InferenceConfig
from retrain_backends.config.model import LoraConfig, ModelConfig
from retrain_backends.config.training import OptimizerConfig


@dataclass(frozen=True)
class PolicySettings:
    """The settings of a policy, its training and its sampling.

    Args:
      model: `[model]`.
      lora: `[lora]`.
      optimizer: `[optimizer]`.
      backend: `[backend]`; the backend itself validates `options`.
      inference: `[inference]`.
      loss: bounds on the ratio in the loss.
      lr: learning rate.
      weight_decay: of the optimiser.
      seed: of the run.
      completions_a_step: completions of a training step; no more are sampled at once.
      group_size: completions of a prompt in training.
      max_tokens: maximum length of a completion.
      longest_prompt: tokens of the longest prompt among those that are known before the start; 0
        if none is.
      resumed: whether `Trainer.load` is called next, so that no new adapter is needed.
    """

    model: ModelConfig
    lora: LoraConfig
    optimizer: OptimizerConfig
    backend: BackendConfig
    inference: InferenceConfig
    loss: "retrain_core.LossOptions"
    lr: float
    weight_decay: float
    seed: int
    completions_a_step: int
    group_size: int
    max_tokens: int
    longest_prompt: int
    resumed: bool
