"""`[backend.options]` of the local backend."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrain_backends.errors import ConfigError


class LocalOptions(BaseModel):
    """What can be set in `[backend.options]` when `backend = "local"`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    microbatch_tokens: int = Field(
        default=4096,
        ge=1,
        description="Input tokens of one forward and backward pass; halved when memory runs out."
        " The gradient does not depend on it.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep only the input of each block and compute the rest again in the backward"
        " pass: less memory, about a third more time in training.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads of torch; 0 leaves torch's own choice.",
    )


def parse_options(options: Mapping[str, object]) -> LocalOptions:
    """Validate the table; every problem is one line of the error."""
    try:
        return LocalOptions.model_validate(dict(options))
    except ValidationError as error:
        allowed = ", ".join(LocalOptions.model_fields)
        raise ConfigError(
            *(
                f"[backend.options] {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                f" (options of the local backend: {allowed})"
                for problem in error.errors()
            )
        ) from error
