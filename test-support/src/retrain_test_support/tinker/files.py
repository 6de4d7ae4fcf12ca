"""Checkpoints of the test server as files: a PEFT adapter, and a tar of it."""

import io
import json
import struct
import tarfile
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from retrain_test_support.tinker.models import SavedCheckpoint
from retrain_test_support.tinker.policy import ALPHA


def adapter_files(
    saved: SavedCheckpoint, target_modules: tuple[str, ...] | None
) -> dict[str, bytes]:
    """A PEFT adapter's directory: file name to content.

    The bigram table is a linear map of one-hot tokens to logits, so its adapter is stored as that
    of a layer `lm_head` with V inputs and V outputs. The configuration names `target_modules`.
    """
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": saved.base_model,
        "r": saved.lora["rank"],
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": target_modules,
    }
    prefix = "base_model.model.lm_head"
    tensors = {
        f"{prefix}.lora_A.weight": saved.adapter.a_VR.T,
        f"{prefix}.lora_B.weight": saved.adapter.b_RV.T,
    }
    return {
        "adapter_config.json": json.dumps(config, indent=2).encode(),
        "adapter_model.safetensors": safetensors(tensors),
    }


def archive(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def safetensors(tensors: Mapping[str, npt.NDArray[np.float64]]) -> bytes:
    """Tensors as float32 in the safetensors format: header's length, JSON header, data."""
    header: dict[str, object] = {}
    data = b""
    for name, values in tensors.items():
        content = np.ascontiguousarray(values, np.float32).tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
