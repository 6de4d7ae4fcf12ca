"""The configuration of one run: all sections together."""

import secrets

from pydantic import Field

from retrain_backends.config.algorithm import (
    AlgorithmConfig,
    GtpoConfig,
    HicraConfig,
    PlanningConfig,
    SepaConfig,
)
from retrain_backends.config.compute import BackendConfig, InferenceConfig
from retrain_backends.config.evaluation import EvalConfig
from retrain_backends.config.health import HealthConfig
from retrain_backends.config.model import LoraConfig, ModelConfig
from retrain_backends.config.policy import PolicySettings
from retrain_backends.config.section import Section
from retrain_backends.config.study import CampaignConfig, LoggingConfig, SqueezeConfig
from retrain_backends.config.task import DataConfig, EnvironmentConfig, RewardConfig
from retrain_backends.config.training import (
    BackpressureConfig,
    OptimizerConfig,
    ResumeConfig,
    TrainingConfig,
)


class RunConfig(Section):
    """All settings of a run; `RunConfig()` has every default.

    `campaign` and `squeeze` are None unless the file or a flag sets them: their presence requests
    a campaign or an analysis.
    """

    model: ModelConfig = Field(default_factory=ModelConfig)
    backend: BackendConfig = Field(default_factory=BackendConfig)
    algorithm: AlgorithmConfig = Field(default_factory=AlgorithmConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    gtpo: GtpoConfig = Field(default_factory=GtpoConfig)
    hicra: HicraConfig = Field(default_factory=HicraConfig)
    sepa: SepaConfig = Field(default_factory=SepaConfig)
    planning: PlanningConfig = Field(default_factory=PlanningConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    environment: EnvironmentConfig = Field(default_factory=EnvironmentConfig)
    inference: InferenceConfig = Field(default_factory=InferenceConfig)
    reward: RewardConfig = Field(default_factory=RewardConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    health: HealthConfig = Field(default_factory=HealthConfig)
    backpressure: BackpressureConfig = Field(default_factory=BackpressureConfig)
    resume: ResumeConfig = Field(default_factory=ResumeConfig)
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    campaign: CampaignConfig | None = None
    squeeze: SqueezeConfig | None = None

    @property
    def condition(self) -> str:
        """The name of the learning rule in the logs: `logging.condition`, the plugin, or modes."""
        algorithm = self.algorithm
        modes = f"{algorithm.advantage_mode}+{algorithm.transform_mode}"
        return self.logging.condition or algorithm.algorithm_mode or modes

    def policy(self, longest_prompt: int = 0) -> PolicySettings:
        """The settings that a backend is built from; prompts have at most that many tokens."""
        return PolicySettings(
            model=self.model,
            lora=self.lora,
            optimizer=self.optimizer,
            backend=self.backend,
            inference=self.inference,
            loss=self.algorithm.loss_options(),
            lr=self.training.lr,
            weight_decay=self.training.weight_decay,
            seed=self.training.seed,
            completions_a_step=self.training.batch_size * self.training.group_size,
            group_size=self.training.group_size,
            max_tokens=self.training.max_tokens,
            longest_prompt=longest_prompt,
            resumed=bool(self.resume.from_),
        )


def with_drawn_seed(config: RunConfig) -> RunConfig:
    """The configuration with `training.seed = -1` replaced by a random seed.

    The seed comes from the operating system, and is below 2^31 so that it is easy to type.
    """
    if config.training.seed >= 0:
        return config
    training = config.training.model_copy(update={"seed": secrets.randbelow(2**31)})
    return config.model_copy(update={"training": training})
