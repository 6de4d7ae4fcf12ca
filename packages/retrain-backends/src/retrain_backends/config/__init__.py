"""The configuration of a run: one frozen model per TOML section, loading, errors, documentation."""

from retrain_backends.config.algorithm import (
    AlgorithmConfig,
    GtpoConfig,
    HicraConfig,
    PlanningConfig,
    SepaConfig,
)
from retrain_backends.config.compute import BackendConfig, InferenceConfig
from retrain_backends.config.conditions import label_of, with_condition
from retrain_backends.config.describe import FieldDoc, SectionDoc, json_schema, sections
from retrain_backends.config.evaluation import EvalConfig
from retrain_backends.config.flags import Arguments, read_arguments
from retrain_backends.config.health import HealthConfig
from retrain_backends.config.load import (
    CONFIG_FILE,
    DEFAULT_FILE,
    load_arguments,
    load_command_line,
    load_config,
    load_env_file,
    load_flags,
)
from retrain_backends.config.model import LoraConfig, ModelConfig
from retrain_backends.config.nearest import did_you_mean
from retrain_backends.config.options import read_backend_options, read_options
from retrain_backends.config.policy import PolicySettings
from retrain_backends.config.problems import Origin
from retrain_backends.config.run import RunConfig, with_drawn_seed
from retrain_backends.config.study import (
    CampaignConfig,
    ConditionConfig,
    LoggingConfig,
    SqueezeConfig,
)
from retrain_backends.config.task import DataConfig, EnvironmentConfig, RewardConfig
from retrain_backends.config.toml import dump_config
from retrain_backends.config.training import (
    BackpressureConfig,
    OptimizerConfig,
    ResumeConfig,
    TrainingConfig,
)

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_FILE",
    "AlgorithmConfig",
    "Arguments",
    "BackendConfig",
    "BackpressureConfig",
    "CampaignConfig",
    "ConditionConfig",
    "DataConfig",
    "EnvironmentConfig",
    "EvalConfig",
    "FieldDoc",
    "GtpoConfig",
    "HealthConfig",
    "HicraConfig",
    "InferenceConfig",
    "LoggingConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Origin",
    "PlanningConfig",
    "PolicySettings",
    "ResumeConfig",
    "RewardConfig",
    "RunConfig",
    "SectionDoc",
    "SepaConfig",
    "SqueezeConfig",
    "TrainingConfig",
    "did_you_mean",
    "dump_config",
    "json_schema",
    "label_of",
    "load_arguments",
    "load_command_line",
    "load_config",
    "load_env_file",
    "load_flags",
    "read_arguments",
    "read_backend_options",
    "read_options",
    "sections",
    "with_condition",
    "with_drawn_seed",
]
