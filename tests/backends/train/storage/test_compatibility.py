import pytest

from retrain_backends.config import RunConfig, load_config
from retrain_backends.train.storage.compatibility import (
    changes_between,
    configuration_digest,
    effect_of,
    settings_of,
)


def settings(**changes):
    return settings_of(load_config(None, {k.replace("__", "."): v for k, v in changes.items()}))


@pytest.mark.parametrize(
    ("setting", "effect"),
    [
        ("training.max_steps", "free"),
        ("training.keep_last", "free"),
        ("logging.wandb_tags", "free"),
        ("logging.condition", "free"),
        ("eval.every", "free"),
        ("health.warn_entropy", "free"),
        ("backend.devices", "inexact"),
        ("backend.options.threads", "inexact"),
        ("backend.options.step_tokens", "inexact"),
        ("backend.options.max_cost", "free"),
        ("backend.options.max_steps_off_policy", "refused"),
        ("backend.options.vocab_size", "refused"),
        ("model.lora_rank", "refused"),
        ("model.chat_template_kwargs", "refused"),
        ("logging.strategic_grams", "refused"),
        ("a.key_of_a_later_version", "refused"),
    ],
)
def test_what_may_change(setting, effect):
    assert effect_of(setting) == effect


def test_changes_are_found_key_by_key():
    before = settings(backend__options={"threads": 1}, training__lr=1e-3)
    now = settings(backend__options={"threads": 2}, training__lr=2e-3, resume__from="logs/train")
    assert list(map(str, changes_between(before, now, evaluated=True))) == [
        "backend.options.threads: 1 -> 2",
        "training.lr: 0.001 -> 0.002",
    ]
    assert changes_between(before, before, evaluated=True) == []


def test_a_key_that_was_not_there_had_its_default():
    before = settings()
    del before["training.lr"]
    assert changes_between(before, settings(), evaluated=True) == []
    [change] = changes_between(before, settings(training__lr=1.0), evaluated=True)
    assert (change.before, change.now, change.effect) == ("4e-5", "1.0", "refused")


def test_the_hash_is_of_the_meaning_alone():
    before = configuration_digest(settings())
    assert before == configuration_digest(settings(training__max_steps=3, backend__devices="cpu"))
    assert before != configuration_digest(settings(training__lr=1.0))


def test_every_setting_of_a_run_is_compared():
    known = settings_of(RunConfig())
    assert {"model.model", "training.seed", "data.path", "sepa.steps", "reward.type"} <= set(known)
    assert not {"logging.log_dir", "resume.from"} & set(known)
