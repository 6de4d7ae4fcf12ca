"""`adapter_config.json` as PEFT writes it, without PEFT: importing it takes seconds of each run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_FORMAT = "0.21.2"  # the version of PEFT that writes the file so; others read it too

# What PEFT's `LoraConfig` has by default.
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config")),
    **dict.fromkeys(("eva_config", "exclude_modules", "kasa_config", "layer_replication")),
    **dict.fromkeys(("layers_pattern", "layers_to_transform", "lora_ga_config", "megatron_config")),
    **dict.fromkeys(("modules_to_save", "monteclora_config", "revision", "target_parameters")),
    **dict.fromkeys(("trainable_token_indices", "use_bdlora", "velora_config")),
    **dict.fromkeys(("ensure_weight_tying", "fan_in_fan_out", "lora_bias"), False),
    **dict.fromkeys(("use_dora", "use_qalora", "use_rslora"), False),
    "alpha_pattern": {},
    "bias": "none",
    "inference_mode": True,
    "init_lora_weights": True,
    "loftq_config": {},
    "megatron_core": "megatron.core",
    "peft_type": "LORA",
    "peft_version": _FORMAT,
    "qalora_group_size": 16,
    "rank_pattern": {},
    "task_type": "CAUSAL_LM",
}


def write_peft_config(
    directory: Path,
    base_model: str,
    target_modules: Sequence[str],
    *,
    rank: int,
    alpha: float,
    dropout: float,
    fan_in_fan_out: bool = False,
) -> None:
    """Write the file beside an adapter's weights.

    Args:
      directory: of the adapter.
      base_model: name of the model that the adapter belongs to.
      target_modules: last parts of the names of the layers that have factors.
      rank: of the factors.
      alpha: the adapter is scaled by alpha / rank.
      dropout: that it was trained with.
      fan_in_fan_out: whether the layers store their weights transposed, as GPT-2's do.
    """
    config = {
        **_DEFAULTS,
        "base_model_name_or_path": base_model,
        "fan_in_fan_out": fan_in_fan_out,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "r": rank,
        "target_modules": list(target_modules),
    }
    text = json.dumps(config, indent=2, sort_keys=True)
    (directory / "adapter_config.json").write_text(text, encoding="utf-8")
