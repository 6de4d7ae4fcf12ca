"""Settings of policies whose completions come from mlx-lm in this process."""

import pytest


@pytest.fixture
def settings(settings_of):
    """`settings(**overrides)`: of a policy with rank 4 that samples with mlx-lm."""

    def build(**overrides):
        return settings_of(**{"inference.engine": "mlx"} | overrides)

    return build
