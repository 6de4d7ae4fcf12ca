"""`[backend.options]` of the local backend."""

from pydantic import Field

from retrain_backends.config.section import Section


class LocalOptions(Section):
    """`[backend.options]` for `backend = "local"`."""

    microbatch_tokens: int = Field(
        default=4096,
        ge=1,
        description="Input tokens of one forward and backward pass, halved when memory runs out."
        " The gradient does not depend on it, unless `lora.dropout` > 0: a different split then"
        " drops different inputs.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep only the input of each block and recompute the rest in the backward pass:"
        " less memory, about a third more time in training.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads of torch. 0: torch's default.",
    )
