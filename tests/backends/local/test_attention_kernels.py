import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest
import torch

from retrain_backends.errors import ConfigError
from retrain_backends.local.attention_kernels import AttentionKernel, attention_kernel
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.self_test import self_test

CPU = torch.device("cpu")
CHECKS = Path(__file__).parent / "conformance.py"


def examined(path, family, kernel):
    base = BaseModel(path, family, CPU, torch.float32)
    self_test((base, None), (base, None), 4096, kernel)


@pytest.mark.parametrize("family", ["Gemma 2", "gpt-oss"])
def test_models_with_special_attention_are_refused(family, tiny_model):
    with pytest.raises(ConfigError, match=r"^inference.attention_kernel: `cutlass` has neither at"):
        examined(tiny_model(family), family, attention_kernel("cutlass"))


def wrong(query, _key, value, _mask, _causal, _scaling):
    return value[:, :, : query.shape[2]] * torch.ones_like(query[..., :1])


def failing(*_arguments):
    raise RuntimeError("no kernel image")


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (wrong, "prefill differs from the plain"),
        (failing, "its self-test failed with RuntimeError"),
    ],
)
def test_a_kernel_that_does_not_work_is_refused(compute, reason, tiny_model):
    line = f"`mine` cannot be used for model `Llama` on cpu: {reason}.*; use `default`$"
    with pytest.raises(ConfigError, match=line):
        examined(tiny_model("Llama"), "Llama", AttentionKernel("mine", compute))


@pytest.mark.slow
@pytest.mark.skipif(not which("g++"), reason="compiles with g++")
def test_flex_attention_on_the_cpu(tmp_path):
    """In a process of its own: what it compiles depends on the shapes that were seen before."""
    command = [sys.executable, str(CHECKS), str(tmp_path), "attention_kernel=triton"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5
