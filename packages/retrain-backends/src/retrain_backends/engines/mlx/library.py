"""Samples with mlx-lm in this process."""

# pyright: reportMissingImports=false

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
from huggingface_hub import snapshot_download
from mlx_lm.utils import load_model

from retrain_backends.config import PolicySettings
from retrain_backends.engines.logprob_kind import LogprobKind
from retrain_backends.engines.mlx.decode import Decoding, sample_groups
from retrain_backends.engines.mlx.layers import Adapter, Layers
from retrain_backends.engines.mlx.peft_files import read_factors
from retrain_backends.errors import ModelError, RunError, describe
from retrain_backends.tokenizer import resolve_model
from retrain_backends.tokenizer.model_files import read_table
from retrain_backends.types import Completion, Request, SampledGroups, SamplingParams
from retrain_backends.waiting import RESUME_HINT

_FILES = ("*.json", "model*.safetensors")


class MlxLibrary:
    """A model of mlx-lm with LoRA layers."""

    logprobs: LogprobKind = "tempered"

    def __init__(self, settings: PolicySettings) -> None:
        self._model, self._vocabulary = _load(settings.model.model, settings.inference.dtype)
        self._layers = Layers(self._model)
        self._adapters: dict[str, Adapter] = {}
        self._at_once = settings.completions_a_step
        self._share_prompts = settings.inference.prefix_caching

    def load(self, name: str, directory: str) -> None:
        """Load an adapter, a PEFT directory, under a name that was not used before.

        Raises:
          RunError: its layers are not those of the model.
        """
        self._adapters[name] = self._layers.adapter(read_factors(Path(directory)))

    def unload(self, name: str) -> None:
        """Forget an adapter."""
        del self._adapters[name]

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, adapter: str
    ) -> SampledGroups:
        """Sample from an adapter that was loaded.

        Raises:
          RunError: a prompt has tokens that the model does not know, or a log-prob is not a number.
        """
        for request in requests:
            self._refuse_unknown_tokens(request)
        layers = self._adapters[adapter] if requests else {}
        return self._groups(requests, params, layers)

    def _groups(
        self, requests: Sequence[Request], params: SamplingParams, adapter: Adapter
    ) -> SampledGroups:
        use_adapter = partial(self._layers.use, adapter)
        decoding = Decoding(self._model, use_adapter, self._at_once, self._share_prompts)
        # A border: mlx-lm raises whatever its code for a family of models does.
        try:
            yield from sample_groups(decoding, requests, params)
        except Exception as error:
            raise RunError(
                f"inference.engine: `mlx` failed while sampling: {describe(error)}; {RESUME_HINT},"
                ' with `inference.engine = "pytorch"` too'
            ) from error

    def sample_everywhere(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> Mapping[str, list[Completion]]:
        """The model in this process."""
        [(_, group)] = self.sample([request], params, adapter)
        return {"mlx-lm": group}

    def rest(self) -> None:
        """Nothing: the memory is that of the machine."""

    def close(self, adapters: Iterable[str] = ()) -> None:
        """Forget the adapters; memory is freed with the objects."""
        for name in adapters:
            self.unload(name)

    def _refuse_unknown_tokens(self, request: Request) -> None:
        largest = int(request.prompt_T.max())
        if largest >= self._vocabulary:
            raise RunError(
                f"step {request.key.step}: prompt {request.key.prompt} has the token {largest}, and"
                f" the vocabulary of model.model has {self._vocabulary}: its tokenizer belongs to"
                " another model"
            )


def _load(name: str, dtype: str) -> tuple[Any, int]:
    """The model of mlx-lm, and the size of its vocabulary."""
    resolved = resolve_model(name)
    # A border: files from others, and the library that reads them.
    try:
        local = Path(resolved).is_dir()
        directory = resolved if local else snapshot_download(resolved, allow_patterns=[*_FILES])
        older = _older_names(read_table(Path(directory) / "config.json"))
        model, config = load_model(Path(directory), lazy=True, model_config=older)
        model.set_dtype(_dtype(dtype))
        mx.eval(model.parameters())
    except (Exception, SystemExit) as error:  # it exits where a family needs another package
        raise ModelError(
            f"inference.engine: `mlx` cannot load model.model `{name}`: {describe(error)};"
            " use the engine `pytorch`"
        ) from error
    return model, (config.get("text_config") or config)["vocab_size"]


def _older_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers 5 writes into `rope_parameters`, where most models of mlx-lm look for it.

    Some of them would assume a default without a word.
    """
    rope = config.get("rope_parameters") or {}
    if "rope_type" not in rope:  # one table for each type of layer
        return {}
    older = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    older["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    return {key: value for key, value in older.items() if key not in config}


def _dtype(name: str) -> Any:
    """`[inference] dtype`: auto is the trainer's, which computes in bfloat16 on CUDA only."""
    on_cuda = mx.default_device() == mx.gpu and not mx.metal.is_available()
    return mx.bfloat16 if name == "bf16" or (name == "auto" and on_cuda) else mx.float32
