"""MLX, Apple's framework, through mlx-lm."""

from typing import ClassVar

from retrain_backends.engines.logprob_kind import LogprobKind


class MlxDialect:
    """mlx-lm in the training process; it has no server that takes token ids."""

    in_process: ClassVar[str] = "retrain_backends.engines.mlx.library:MlxLibrary"
    logprobs: ClassVar[LogprobKind] = "tempered"
