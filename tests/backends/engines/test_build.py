from importlib.util import find_spec

import pytest

from retrain_backends.errors import ConfigError, PluginError


@pytest.mark.skipif(find_spec("mlx") is not None, reason="MLX is installed")
def test_a_library_that_is_not_installed(backend):
    line = r"`mlx` needs the package `mlx`, .*: pip install 'retrain-backends\[mlx\]'"
    with pytest.raises(PluginError, match=rf"inference\.engine: {line}"):
        backend(**{"inference.engine": "mlx", "inference.url": ""})


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"inference.engine": "max", "inference.url": ""}, r"inference\.url: `max` needs the addr"),
        ({"inference.engine": "mlx"}, r"inference\.url: `mlx` samples in this process only; leave"),
        (
            {
                "inference.engine": "mlx",
                "inference.url": "",
                "inference.max_steps_off_policy": 1,
            },
            r"inference\.max_steps_off_policy: `1` needs a server",
        ),
    ],
)
def test_settings_that_do_not_fit_the_engine(backend, overrides, line):
    with pytest.raises(ConfigError, match=line):
        backend(**overrides)
