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
    Urls,
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

    engine: Annotated[
        Text, NameOrPlugin("engine", ("pytorch", "vllm", "sglang", "max", "mlx", "openai"))
    ] = Field(
        default="pytorch",
        description="The sampler. `pytorch` and `mlx` run inside the training process; the others "
        "are servers, `openai` any server with `/v1/completions` and log-probs.",
    )
    url: Urls = Field(
        default=(),
        description="Addresses of the servers, without a path; each gets every adapter, and "
        "requests are spread over them. Their key is the environment variable "
        "RETRAIN_INFERENCE_API_KEY. Empty: the engine samples in this process, if it can.",
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=1800.0, description="Longest wait for an answer of a server."
    )
    max_requests: Count = Field(
        default=64, description="Prompts that may be in flight at each server."
    )
    max_steps_off_policy: Annotated[int, Field(ge=0, le=1), Allowed("0 or 1")] = Field(
        default=0,
        description="1: servers sample the next step while this one trains, so that its "
        "completions come from the policy of one step before; the metrics say so. 0: one after "
        "the other.",
    )
    overlap: Literal["off", "exact"] = Field(
        default="off",
        description="`exact`: groups are trained on as soon as they are judged, while servers "
        "sample the others of the same step; the optimiser step still follows the last one, with "
        "the same gradient up to rounding. `off`: training starts when all are judged.",
    )
    adapter_dir: str = Field(
        default="",
        description="Directory through which servers get the adapters; a server on another machine "
        "needs a shared one. Empty: memory (`/dev/shm`), or the temporary directory.",
    )
    logprobs: Literal["auto", "engine", "trainer"] = Field(
        default="auto",
        description="Whose log-probs of sampled tokens are used. `auto`: the engine's, unless a "
        "comparison shows that they are not those of the sampling temperature.",
    )
    determinism: Literal["off", "tokens"] = Field(
        default="off",
        description="`tokens`: a request with the same seed gives the same tokens and log-probs "
        "whatever else is sampled with it; for `vllm`, which is compared at the start, and for "
        "`pytorch` on the CPU. `off`: as the engine does it.",
    )
    prompts: Literal["ids", "text"] = Field(
        default="ids",
        description="What servers get: `ids` of tokens, or their `text`, for servers that take "
        "nothing else. A text is sent only if it encodes to exactly the tokens of the prompt.",
    )
    inexact_prompts: Literal["refuse", "drop"] = Field(
        default="refuse",
        description='With `prompts = "text"`, what becomes of a prompt whose text encodes to other '
        "tokens: `refuse` ends the run, `drop` leaves the prompt out and counts it.",
    )
    attention_kernel: Literal["default", "flash", "triton", "tk", "cutlass"] = Field(
        default="default",
        description="Attention kernel of the sampler. With `pytorch`: SDPA, FlashAttention, "
        "FlexAttention (`triton`), or SDPA's memory-efficient kernel (`cutlass`); training always "
        "uses SDPA. With `vllm` and `sglang`: `flash` or `triton`, a flag of the server. `tk` "
        "(ThunderKittens) is not available.",
    )
    dtype: Literal["auto", "bf16", "fp8", "fp4"] = Field(
        default="auto",
        description="Format of the weights. `auto`: bfloat16 on a GPU, float32 on the CPU. `bf16`: "
        "bfloat16, in training too. `fp8` and `fp4`: of the sampler's linear layers only; with "
        "`pytorch` it has a copy of its own (the extra `quantized`), with `vllm` and `sglang` this "
        "is a flag of the server.",
    )
    kv_cache_dtype: Literal["auto", "bf16", "fp8", "int8"] = Field(
        default="auto",
        description="Format of the key-value cache. `auto`: that of the activations. `fp8` and "
        "`int8` need the extra `quantized` with `pytorch`; with `vllm` and `sglang` this is a flag "
        "of the server.",
    )
    prefix_caching: bool = Field(
        default=True,
        description="Prefill each prompt once and share its key-value cache within the group.",
    )
