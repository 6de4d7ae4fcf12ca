import errno
import shutil
from pathlib import Path

import pytest

from retrain_backends.config import RunConfig, TrainingConfig
from retrain_backends.errors import RunError
from retrain_backends.fake import ADAPTER_FILE, STATE_FILE, FakeBackend, FakeOptions, FakeTraining
from retrain_backends.protocols import facts_of
from retrain_backends.tracking.journal import Journal
from retrain_backends.train.step.progress import Progress
from retrain_backends.train.storage.checkpoint import Checkpoints
from retrain_backends.train.storage.fingerprints import Fingerprints
from retrain_backends.train.storage.run_directory import describe_start
from retrain_backends.train.storage.state_file import DamagedError, read_state, write_state
from retrain_backends.train.storage.train_state import TrainState
from retrain_core import RunningCount, SepaSchedule, SepaState


class Counting(FakeBackend):
    exports = 0

    def export_adapter(self, directory):
        self.exports += 1
        return super().export_adapter(directory)


class FullDisk(FakeBackend):
    """Once it is full, its state goes to a device that always is."""

    full = False

    def save(self, directory):
        if self.full:
            (directory / STATE_FILE).symlink_to("/dev/full")
        return super().save(directory)


class Private(FakeBackend):
    """Its files are readable by their owner only, as those of safetensors are."""

    def save(self, directory):
        reference = super().save(directory)
        (directory / STATE_FILE).chmod(0o600)
        return reference

    def export_adapter(self, directory):
        path = super().export_adapter(directory)
        (directory / ADAPTER_FILE).chmod(0o600)
        return path


class Remote(FakeBackend):
    def export_adapter(self, _directory):
        return "service://adapter/7"


class Withholding(FakeBackend):
    """A service that saves, and then does not give the adapter."""

    def export_adapter(self, _directory):
        raise RunError("no adapter")


ROWS = {"step": 0}, {"step": 0}, [{"step": 0, "completion": "1"}] * 2


def after(steps: int) -> TrainState:
    return TrainState(steps, 8 * steps, RunningCount(3, 4), SepaState(var_ema=0.1 + 0.2))


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path) as journal:
        yield journal


@pytest.fixture
def make(tmp_path, journal):
    def build(backend_class=FakeBackend, **training):
        backend = backend_class(FakeOptions(), FakeTraining(lr=0.1), seed=1)
        config = RunConfig()
        start = Progress(SepaSchedule(steps=0)).start()
        begun = describe_start(config, start, Fingerprints(examples="data"), facts_of(backend))
        return backend, Checkpoints(backend, tmp_path, begun, TrainingConfig(**training), journal)

    return build


def saved_steps(directory: Path) -> list[int]:
    return sorted(int(path.name[-6:]) for path in (directory / "checkpoints").iterdir())


def test_saves_on_schedule_and_each_step_once(make, tmp_path):
    backend, checkpoints = make(Counting, save_every=2)
    for steps in range(6):
        checkpoints.save_if_due(after(steps))
    assert saved_steps(tmp_path) == [2, 4]
    assert checkpoints.save(after(5)) == checkpoints.save(after(5))
    assert backend.exports == 3


def ends_of_logs(saved) -> dict[str, list[tuple[int, int]]]:
    """Bytes and lines at every mark."""
    return {name: [(mark.bytes, mark.lines) for mark in saved.logs[name]] for name in saved.logs}


def test_state_is_read_back_as_it_was(make, tmp_path, journal):
    journal.write(*ROWS)
    make()[1].save(after(7), score=0.25)
    saved = read_state(tmp_path / "trainer_state.json")
    assert saved == read_state(tmp_path / "checkpoints/step_000007/state.json")
    assert saved.train_state == after(7)
    assert saved.score == 0.25
    assert ends_of_logs(saved) == {
        "metrics.jsonl": [(12, 1)],
        "emergence/steps.jsonl": [(12, 1)],
        "emergence/generations.jsonl": [(62, 2)],
    }
    assert saved.files.keys() == {"policy.npy", "trainer/state.npz"}
    saved.check(tmp_path)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([None] * 6, [5, 6]),
        ([0.1, 0.5, 0.2, 0.3, 0.1, 0.1], [2, 5, 6]),
        ([0.1, 0.5, 0.5, 0.3, 0.1, 0.1], [2, 5, 6]),  # the earliest of equals
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [5, 6]),
    ],
)
def test_the_last_and_the_best_are_kept(make, tmp_path, scores, kept):
    _, checkpoints = make(save_every=1)
    for steps, score in enumerate(scores, start=1):
        checkpoints.save_if_due(after(steps), score)
    assert saved_steps(tmp_path) == kept


@pytest.mark.parametrize(("keep_best", "kept"), [(True, [3, 10]), (False, [10])])
def test_a_new_best_is_saved_off_schedule(make, tmp_path, keep_best, kept):
    _, checkpoints = make(save_every=10, keep_best=keep_best)
    for steps in range(1, 11):
        checkpoints.save_if_due(after(steps), {3: 0.5, 6: 0.4}.get(steps))
    assert saved_steps(tmp_path) == kept


def test_a_score_that_comes_later_is_noted(make, tmp_path, journal):
    backend, checkpoints = make(Counting, save_every=2)
    journal.write(*ROWS)
    checkpoints.save(after(4))
    journal.write_evaluation(4, {"step": 4}, [{"index": 0}])
    checkpoints.save_if_due(after(4), 0.5)
    saved = read_state(tmp_path / "trainer_state.json")
    assert (saved.score, backend.exports) == (0.5, 1)
    ends = ends_of_logs(saved)
    assert (ends["eval.jsonl"], ends["eval/step_000004.jsonl"]) == ([(12, 1)], [(13, 1)])
    assert ends["metrics.jsonl"] == [(12, 1)]
    assert read_state(tmp_path / "checkpoints/step_000004/state.json") == saved


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_checkpoint_before_it(make, tmp_path):
    backend, checkpoints = make(FullDisk)
    checkpoints.save(after(1))
    backend.full = True
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoints.save(after(2))
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    read_state(tmp_path / "trainer_state.json").check(tmp_path)
    assert "after step 1 is intact" in checkpoints.full_disk_message()


def test_without_its_adapter_the_state_is_saved_all_the_same(make, tmp_path):
    _, checkpoints = make(Withholding)
    with pytest.raises(RunError, match="no adapter"):
        checkpoints.save(after(2))
    saved = read_state(tmp_path / "trainer_state.json")
    assert saved.train_state == after(2)
    saved.check(tmp_path)
    assert checkpoints.save(after(2)) == str(tmp_path / "checkpoints/step_000002")


def test_free_space_is_checked_before_writing(make, tmp_path, journal):
    backend, checkpoints = make()
    begun = read_state(Path(checkpoints.save(after(1))) / "state.json")
    huge = begun.model_copy(update={"bytes": 10**18})
    with pytest.raises(RunError, match=r"needs 1,000,000,000,000\.0 MB, and .* is free; make room"):
        Checkpoints(backend, tmp_path, huge, TrainingConfig(), journal).save(after(2))
    assert saved_steps(tmp_path) == [1]


def test_what_a_kill_has_left_is_pruned_after_the_resume(make, tmp_path):
    _, checkpoints = make(keep_last=1)
    checkpoints.save(after(1))
    shutil.copytree(tmp_path / "checkpoints/step_000001", tmp_path / "kept")
    checkpoints.save(after(2))
    (tmp_path / "kept").rename(tmp_path / "checkpoints/step_000001")
    checkpoints.save(after(2))
    assert saved_steps(tmp_path) == [2]


def test_an_adapter_is_replaced_whole(make, tmp_path):
    _, checkpoints = make()
    for _ in range(2):
        assert checkpoints.save_final(tmp_path) == str(tmp_path / "final")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["emergence", "final", "metrics.jsonl"]


def test_files_are_readable_as_the_umask_allows(make, tmp_path):
    _, checkpoints = make(Private)
    checkpoints.save_final(tmp_path)
    checkpoints.save(after(1))
    (tmp_path / "beside").touch()
    usual = (tmp_path / "beside").stat().st_mode
    for path in ("final/policy.npy", "checkpoints/step_000001/trainer/state.npz"):
        assert (tmp_path / path).stat().st_mode == usual


def test_path_of_a_service_is_passed_on(make, tmp_path):
    _, checkpoints = make(Remote)
    assert checkpoints.save_final(tmp_path) == checkpoints.save(after(1)) == "service://adapter/7"


def test_a_service_s_final_adapter_is_in_the_state(make, tmp_path):
    _, checkpoints = make(Remote)
    checkpoints.save(after(1))
    checkpoints.save_final(tmp_path)
    saved = read_state(tmp_path / "trainer_state.json")
    assert (saved.checkpoint, saved.final) == ("step_000001", "service://adapter/7")
    assert not (tmp_path / "final").exists()
    checkpoints.save(after(2))  # the run was made longer
    assert read_state(tmp_path / "trainer_state.json").final == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-2]),
        lambda path: path.write_bytes(path.read_bytes()[:40] + b"?" + path.read_bytes()[41:]),
        lambda path: path.write_bytes(b"\xff\x00"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("{}"),
    ],
)
@pytest.mark.parametrize("name", ["state.json", "policy.npy", "trainer/state.npz"])
def test_damage_is_noticed(make, tmp_path, name, damage):
    directory = Path(make()[1].save(after(1)))
    damage(directory / name)
    with pytest.raises(DamagedError):
        read_state(directory / "state.json").check(tmp_path)


def test_every_checkpoint_marks_the_logs(make, tmp_path, journal):
    _, checkpoints = make()
    for steps in (1, 2, 3):
        journal.write(*ROWS)
        checkpoints.save(after(steps))
    checkpoints.save(after(4))  # nothing was logged
    saved = read_state(tmp_path / "trainer_state.json")
    assert ends_of_logs(saved)["metrics.jsonl"] == [(12, 1), (24, 2), (36, 3)]


def test_a_state_is_written_whole(make, tmp_path):
    make()[1].save(after(1))
    path = tmp_path / "trainer_state.json"
    write_state(path, read_state(path).model_copy(update={"score": 0.5}))
    assert read_state(path).score == 0.5
    assert not list(tmp_path.glob(".*"))


def test_what_a_kill_or_a_fallback_left_is_deleted(make, tmp_path):
    _, checkpoints = make(keep_last=2)
    checkpoints.save(after(2))
    folder = tmp_path / "checkpoints"
    (folder / ".step_000001.removed").mkdir()
    (folder / "step_000009").mkdir()  # damaged, and the run has gone back behind it
    checkpoints.save(after(3))
    assert sorted(path.name for path in folder.iterdir()) == ["step_000002", "step_000003"]
