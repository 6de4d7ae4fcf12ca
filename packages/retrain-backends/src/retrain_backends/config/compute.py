"""The backend that trains, and the engine that samples."""

from typing import Annotated, Literal

from pydantic import Field

from retrain_backends.config.section import (
    Allowed,
    Count,
    FreeTable,
    NameOrPlugin,
    Section,
    Text,
    Url,
)

_DEVICES = r"^ *(cpu|gpu:[0-9]+) *(, *(cpu|gpu:[0-9]+) *)*$"


class BackendConfig(Section):
    """The backend that trains the model, and its devices."""

    backend: Annotated[Text, NameOrPlugin("backend", ("local", "tinker", "fake"))] = Field(
        default="local",
        description="The trainer: `local` is PyTorch on this machine, `tinker` a Tinker service, "
        "`fake` a substitute without a model for trying out a configuration.",
    )
    devices: Annotated[
        str,
        Field(pattern=_DEVICES),
        Allowed('"cpu", "gpu:0", or a comma-separated list of such devices'),
    ] = Field(
        default="gpu:0",
        description="Devices of the local backend. Without a GPU it falls back to the CPU with a "
        "warning. With a list, the first device samples and the last one trains.",
    )
    adapter_path: str = Field(
        default="",
        description="Directory for the trained adapter. Empty: inside the run's own directory.",
    )
    max_concurrent: Count = Field(
        default=4, description="Calls to a remote service that may be in flight at once."
    )
    throttle_dir: str = Field(
        default="",
        description="Directory through which several processes share `max_concurrent`. "
        "Empty: each process counts for itself.",
    )
    options: FreeTable = Field(
        default_factory=dict,
        description="Settings of the chosen backend.",
    )


class InferenceConfig(Section):
    """The engine that samples completions for the local backend."""

    engine: Literal["pytorch", "max", "vllm", "sglang", "mlx", "openai"] = Field(
        default="pytorch",
        description="The sampler. `pytorch` runs inside the training process.",
    )
    url: Url = Field(default="", description="Address of the server, for engines with a server.")
    attention_kernel: Literal["default", "flash", "triton", "tk", "cutlass"] = Field(
        default="default", description="Attention kernel of the engine."
    )
    dtype: Literal["auto", "bf16", "fp8", "fp4"] = Field(
        default="auto", description="Number format of the weights while sampling."
    )
    kv_cache_dtype: Literal["auto", "bf16", "fp8", "int8"] = Field(
        default="auto", description="Number format of the key-value cache."
    )
    prefix_caching: bool = Field(
        default=True,
        description="Prefill each prompt once and share its key-value cache within the group.",
    )
