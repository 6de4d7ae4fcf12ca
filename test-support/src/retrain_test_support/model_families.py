"""Tiny random models of many families, to compare retrain's passes with those of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 61
_WINDOW = 4  # tokens, less than the texts of the comparisons have

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # so large that attention matters
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_HEAD_DIM = {"head_dim": 16}
_OLDER = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
_MIXED = {
    "num_hidden_layers": 4,
    "sliding_window": _WINDOW,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_MLA = {
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}
_SHARED_EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "original_max_position_embeddings": 32,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 2.0,
    "original_max_position_embeddings": 64,
}
_GRANITE = {
    "logits_scaling": 3.0,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.1,
}


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Args:
      name: of the family, unique.
      model_type: what transformers calls its configuration.
      settings: of a tiny model.
      note: what distinguishes its layers.
    """

    name: str
    model_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


_ATTENTION = (
    Family("Llama", "llama"),
    Family("Qwen 2", "qwen2"),
    Family(
        "Qwen 2 with windows",
        "qwen2",
        {"num_hidden_layers": 4, "use_sliding_window": True}
        | {"sliding_window": _WINDOW, "max_window_layers": 2},
        "sliding window above `max_window_layers`",
    ),
    Family("Qwen 3", "qwen3", _HEAD_DIM | {"tie_word_embeddings": True}),
    Family("Qwen 3 MoE", "qwen3_moe", _EXPERTS | _HEAD_DIM | {"moe_intermediate_size": 24}),
    Family("Mistral", "mistral", {"sliding_window": _WINDOW}, "sliding window"),
    Family(
        "Ministral",
        "ministral",
        _MIXED | _HEAD_DIM,
        "sliding window in some layers",
    ),
    Family("Mixtral", "mixtral", _EXPERTS),
    Family("Gemma", "gemma", _HEAD_DIM),
    Family(
        "Gemma 2",
        "gemma2",
        _MIXED | _HEAD_DIM | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0},
        "sliding window in some layers; scores and logits are soft-capped",
    ),
    Family(
        "Gemma 3 (text)",
        "gemma3_text",
        _MIXED | _HEAD_DIM,
        "sliding window in some layers; two rotary bases",
    ),
    Family("Phi", "phi"),
    Family("Phi 3", "phi3", {"sliding_window": _WINDOW}, "sliding window"),
    Family(
        "Phi 3, long context",
        "phi3",
        {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 32},
        "longrope",
    ),
    Family("OLMo", "olmo"),
    Family("OLMo 2", "olmo2"),
    Family("OLMo 3", "olmo3", _MIXED, "sliding window in some layers"),
    Family("OLMoE", "olmoe", _EXPERTS),
    Family("Cohere", "cohere", {"logit_scale": 0.3}, "logits are scaled"),
    Family(
        "Cohere 2",
        "cohere2",
        _MIXED | {"logit_scale": 0.3},
        "sliding window in some layers; logits are scaled",
    ),
    Family("Granite", "granite", _GRANITE, "embeddings, scores and logits are scaled"),
    Family("Granite MoE", "granitemoe", _GRANITE | _EXPERTS, "the same"),
    Family("GPT-2", "gpt2", _OLDER, "linear layers store their weights transposed"),
    Family("StarCoder (GPT-BigCode)", "gpt_bigcode", _OLDER),
    Family("GPT-NeoX, Pythia", "gpt_neox"),
    Family("OPT", "opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}),
    Family("StarCoder 2", "starcoder2", {"sliding_window": _WINDOW}, "sliding window"),
    Family(
        "gpt-oss",
        "gpt_oss",
        _MIXED | _EXPERTS | {"head_dim": 8, "rope_parameters": _YARN},
        "sliding window in some layers; attention sinks",
    ),
    Family("DeepSeek-V2", "deepseek_v2", _MLA | _SHARED_EXPERTS, "MLA"),
    Family("DeepSeek-V3", "deepseek_v3", _MLA | _SHARED_EXPERTS, "MLA"),
    Family("SmolLM 3", "smollm3", {"num_hidden_layers": 4}, "no positions in some layers"),
    Family("GLM", "glm", {"head_dim": 8}),
    Family("GLM 4", "glm4", {"head_dim": 8}),
    Family("GLM 4 MoE", "glm4_moe", _SHARED_EXPERTS | {"head_dim": 8}),
    Family("ERNIE 4.5", "ernie4_5", {"head_dim": 8}),
    Family(
        "ERNIE 4.5 MoE",
        "ernie4_5_moe",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24},
    ),
    Family("EXAONE 4", "exaone4", _MIXED, "sliding window in some layers"),
    Family("Helium", "helium", {"head_dim": 8}),
    Family("Hunyuan", "hunyuan_v1_dense", {"head_dim": 8}),
    Family("Seed-OSS", "seed_oss", {"head_dim": 8}),
    Family("Arcee", "arcee"),
    Family("Persimmon", "persimmon"),
    Family(
        "Llama 4 (text)",
        "llama4_text",
        _EXPERTS
        | {"num_hidden_layers": 4, "head_dim": 8, "intermediate_size_mlp": 48}
        | {"no_rope_layers": [1, 1, 1, 0]},
        "chunked attention; no positions in some layers",
    ),
)
_OTHERS = (
    Family("Nemotron", "nemotron"),
    Family("StableLM", "stablelm"),
    Family(
        "GPT-Neo",
        "gpt_neo",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    ),
    Family("GPT-J", "gptj", _OLDER | {"rotary_dim": 4}),
    Family("Falcon (rotary)", "falcon"),
    Family("Falcon (ALiBi)", "falcon", {"alibi": True}),
    Family("BLOOM", "bloom", {"n_layer": 2, "n_head": 4}),
    Family("MPT", "mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}),
    Family("Mamba", "mamba", {"state_size": 4}),
    Family("Mamba 2", "mamba2", {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}),
    Family(
        "Jamba",
        "jamba",
        _EXPERTS | {"mamba_d_state": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    ),
    Family(
        "Bamba",
        "bamba",
        {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8},
    ),
    Family(
        "Falcon-H1",
        "falcon_h1",
        {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8}
        | {"mamba_n_groups": 1},
    ),
    Family(
        "Qwen3-Next",
        "qwen3_next",
        _EXPERTS
        | {"num_hidden_layers": 4, "head_dim": 8, "moe_intermediate_size": 24}
        | {"linear_num_value_heads": 4, "linear_num_key_heads": 2}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
        | {"shared_expert_intermediate_size": 24},
    ),
    Family("LFM 2", "lfm2", {"layer_types": ["conv", "full_attention"]}),
    Family(
        "RecurrentGemma",
        "recurrent_gemma",
        {"lru_width": 32, "attention_window_size": 8, "head_dim": 8, "num_hidden_layers": 3},
    ),
    Family("RWKV", "rwkv", {"attention_hidden_size": 32, "context_length": 64}),
)
FAMILIES = {family.name: family for family in _ATTENTION + _OTHERS}


def write_tiny_model(family: Family, directory: Path, **changes: Any) -> None:
    """Write `config.json` and random weights of a tiny model of the family."""
    config = AutoConfig.for_model(family.model_type, **(_SIZES | dict(family.settings) | changes))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 1:  # biases, norms and sinks, which start at 0 or 1
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
