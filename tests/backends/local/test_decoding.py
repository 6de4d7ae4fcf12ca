import importlib.util

import pytest
import torch

from retrain_backends.errors import ConfigError, PluginError
from retrain_backends.local.backend import LocalBackend
from retrain_backends.testing import BackendCase
from retrain_backends.testing.suite import (
    check_policy_is_that_of_the_call,
    check_rows_do_not_affect_each_other,
    check_scores_are_those_of_the_sampler,
    check_training_lowers_the_loss,
)

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
WITHOUT_TORCHAO = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is not None, reason="torchao is installed"
)


@WITHOUT_GPU
@pytest.mark.parametrize("kernel", ["flash", "cutlass"])
def test_kernels_that_need_a_gpu(kernel, local_config):
    line = f"^inference.attention_kernel: `{kernel}` needs an NVIDIA GPU, .* `default` or `triton`$"
    with pytest.raises(ConfigError, match=line):
        LocalBackend.from_config(local_config(inference={"attention_kernel": kernel}))


@WITHOUT_TORCHAO
@pytest.mark.parametrize(
    ("key", "value"),
    [("dtype", "fp8"), ("dtype", "fp4"), ("kv_cache_dtype", "fp8"), ("kv_cache_dtype", "int8")],
)
def test_what_needs_torchao(key, value, local_config):
    line = rf"inference.{key}: `{value}` needs .* pip install 'retrain-backends\[quantized\]'"
    with pytest.raises(PluginError, match=line):
        LocalBackend.from_config(local_config(inference={key: value}))


@pytest.mark.parametrize(
    "check",
    [
        check_policy_is_that_of_the_call,
        check_rows_do_not_affect_each_other,
        check_scores_are_those_of_the_sampler,
        check_training_lowers_the_loss,
    ],
    ids=lambda check: check.__name__,
)
def test_a_cache_in_bfloat16(check, local_config, tmp_path):
    config = local_config(inference={"kv_cache_dtype": "bf16"})
    check(BackendCase(lambda: LocalBackend.from_config(config), tmp_path, tolerance=0.02))
