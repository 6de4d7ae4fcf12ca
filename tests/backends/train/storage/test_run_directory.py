from retrain_backends.config import RunConfig
from retrain_backends.train.step.control import Control
from retrain_backends.train.storage.fingerprints import Fingerprints
from retrain_backends.train.storage.run_directory import describe_start
from retrain_backends.types import BackendFacts


def test_a_run_promises_no_more_than_its_reward():
    facts = BackendFacts("fake", (), "bitwise", "everything is seeded")
    told = []
    for reward in ("match", "judge", "custom"):
        config = RunConfig.model_validate({"reward": {"type": reward}})
        start = Control.from_config(config).start()
        saved = describe_start(config, start, Fingerprints(examples=""), facts)
        told.append((saved.determinism, saved.determinism_reason))
    assert told == [
        ("bitwise", "everything is seeded"),
        ("not controlled", "another model judges the completions"),
        ("bitwise", "everything is seeded, if the reward `custom` always judges alike"),
    ]
