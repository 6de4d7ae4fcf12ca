import pytest

from retrain_backends.fake import FakeBackend, FakeOptions, FakeTraining
from retrain_backends.train.checkpoint import Checkpoints, export_adapter


class Counting(FakeBackend):
    exports = 0

    def export_adapter(self, directory):
        self.exports += 1
        return super().export_adapter(directory)


class Failing(FakeBackend):
    def export_adapter(self, directory):
        super().export_adapter(directory)
        raise OSError("disk full")


class Remote(FakeBackend):
    def export_adapter(self, _directory):
        return "service://adapter/7"


def make(backend_class):
    return backend_class(FakeOptions(), FakeTraining(lr=0.1), seed=1)


def test_saves_on_schedule_and_each_step_once(tmp_path):
    backend = make(Counting)
    checkpoints = Checkpoints(backend, tmp_path, every=2)
    for steps_done in range(1, 6):
        checkpoints.save_if_due(steps_done)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step_000002",
        "step_000004",
    ]
    assert checkpoints.save(5) == checkpoints.save(5)
    assert backend.exports == 3


def test_half_an_adapter_never_has_its_name(tmp_path):
    with pytest.raises(OSError, match="disk full"):
        export_adapter(make(Failing), tmp_path / "final")
    assert not (tmp_path / "final").exists()
    assert export_adapter(make(FakeBackend), tmp_path / "final") == str(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_path_of_a_service_is_passed_on(tmp_path):
    assert export_adapter(make(Remote), tmp_path / "final") == "service://adapter/7"
