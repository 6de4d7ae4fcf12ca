import pytest

from retrain_backends.config import RunConfig
from retrain_campaign.plan.disk_space import adapter_bytes, disk_space_of, format_bytes

TABLES = {
    "backend": {"backend": "fake"},
    "model": {"model": "builtin:tiny-arithmetic", "lora_rank": 16},
    "training": {"max_steps": 10, "save_every": 5},
}


def test_checkpoints_and_logs():
    config = RunConfig.model_validate(TABLES)
    adapter = adapter_bytes("builtin:tiny-arithmetic", 16)
    assert adapter == 4 * 16 * 4 * (2 * 256 + 2 * 192 + 3 * 512)
    space = disk_space_of(config)
    assert (space.adapter, space.checkpoints, space.logs_measured) == (adapter, 3, False)
    assert space.total == 13 * adapter + space.logs
    measured = disk_space_of(config, log_bytes=1.5)
    assert (measured.logs, measured.logs_measured) == (15, True)


def test_a_model_whose_files_are_not_here():
    config = RunConfig.model_validate({**TABLES, "model": {"model": "no-such/model"}})
    assert disk_space_of(config).total is None


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12 B"), (2490368, "2.49 MB"), (3e9, "3 GB"), (1.5e13, "15.0 TB")]
)
def test_bytes_have_a_unit(count, words):
    assert format_bytes(count) == words
