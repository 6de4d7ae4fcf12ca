from retrain_backends.config import RunConfig
from retrain_backends.train.step.progress import Progress
from retrain_backends.train.storage.fingerprints import Fingerprints
from retrain_backends.train.storage.run_directory import describe_start
from retrain_backends.types import Facts
from retrain_core import SepaSchedule


def test_a_run_promises_no_more_than_its_reward():
    facts = Facts("fake", (), "bitwise", "everything is seeded")
    told = []
    for reward in ("match", "judge", "custom"):
        config = RunConfig.model_validate({"reward": {"type": reward}})
        start = Progress(SepaSchedule(steps=0)).start()
        saved = describe_start(config, start, Fingerprints(examples=""), facts)
        told.append((saved.determinism, saved.determinism_reason))
    assert told == [
        ("bitwise", "everything is seeded"),
        ("not controlled", "another model judges the completions"),
        ("bitwise", "everything is seeded, if the reward `custom` is deterministic"),
    ]
