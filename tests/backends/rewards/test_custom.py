import re

import pytest

from retrain_backends.errors import ConfigError, PluginError
from retrain_backends.types import Verdict

CUSTOM = {"type": "custom", "custom_module": "mine", "custom_function": "misbehave"}
OTHERS = ["a", "ab", "abc", "abcd", "abcde"] * 3


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("raises", r"ZeroDivisionError: no such thing"),
        ("none", r"it returned None; a number is expected"),
        ("nan", r"the reward is nan"),
        ("infinite", r"the reward is inf"),
        ("text", r"it returned a str; a number is expected"),
        ("list", r"it returned a list; a number is expected"),
        ("sleeps", r"no verdict within 2 s \(reward.timeout_s\)"),
        ("spins", r"no verdict within 2 s \(reward.timeout_s\)"),
        ("computes", r"no verdict within 2 s \(reward.timeout_s\)|out of memory .*"),
        ("exits", r"the worker process ended \(exit status 3\)"),
        ("leaves", r"SystemExit: 0"),
        ("closes", r"the worker process ended .*"),
        ("allocates", r"out of memory \(see reward.memory_mb\)"),
        ("writes", r"the worker process sent an invalid reply"),
    ],
)
def test_a_bad_item_costs_only_itself(reward, to_items, response, reason):
    service = reward(**CUSTOM, timeout_s=2.0, workers=2, memory_mb=64)
    verdicts = service.score(to_items(*OTHERS[:7], response, *OTHERS[7:]))
    bad = verdicts.pop(7)
    assert bad.value is None
    assert re.fullmatch(reason, bad.reason)
    assert verdicts == [Verdict(float(len(text))) for text in OTHERS]
    # And the next batch finds working processes.
    assert [v.value for v in service.score(to_items(*OTHERS))] == [len(text) for text in OTHERS]


def test_many_items_that_never_end_hold_up_nobody(reward, to_items):
    service = reward(**CUSTOM, timeout_s=2.0, workers=1)
    verdicts = service.score(to_items(*["sleeps"] * 5, *OTHERS))
    assert [v.value for v in verdicts] == [None] * 5 + [len(text) for text in OTHERS]


def test_a_process_that_forks_answers_once(reward, to_items):
    verdicts = reward(**CUSTOM, workers=1).score(to_items("forks", *OTHERS))
    assert [verdict.value for verdict in verdicts] == [5.0, *(len(text) for text in OTHERS)]


def test_who_stops_the_program_that_makes_processes_holds_nobody_up_for_ever(reward, to_items):
    service = reward(**CUSTOM, timeout_s=1.0, workers=1)
    verdicts = service.score(to_items("stops", "sleeps", "ab"))
    assert [verdict.value for verdict in verdicts] == [5.0, None, 2.0]


def test_a_function_may_keep_a_time_limit_of_its_own(reward, to_items):
    service = reward(**{**CUSTOM, "custom_module": "limited", "custom_function": "score"})
    assert service.score(to_items("a", "b", "c")) == [Verdict(0.5)] * 3


def test_what_it_prints_reaches_neither_the_console_nor_the_verdicts(reward, to_items, capfd):
    verdicts = reward(**CUSTOM, workers=1).score(to_items("prints", "ab", "prints"))
    assert [v.value for v in verdicts] == [6.0, 2.0, 6.0]
    assert capfd.readouterr() == ("", "")


def test_a_very_long_completion(reward, to_items):
    [verdict] = reward(**CUSTOM).score(to_items("x" * 10_000_000))
    assert verdict == Verdict(1e7)


@pytest.mark.parametrize("text", ["\ud800", "\x00", "\n", '"}\n{"id": 1}', "\u2028"])
def test_any_text_can_be_judged(reward, to_items, text):
    assert reward(**CUSTOM).score(to_items(text)) == [Verdict(float(len(text)))]


def test_processes_have_no_torch(reward, to_items):
    assert reward(**CUSTOM).score(to_items("torch")) == [Verdict(0.0)]


def test_a_process_that_leaks_is_replaced(reward, to_items):
    service = reward(**CUSTOM, workers=1, memory_mb=100)
    before, hoarded, after = service.score(to_items("pid", "hoards", "pid"))
    assert hoarded.value == 6.0
    assert before.value != after.value


def test_the_same_process_judges_many(reward, to_items):
    verdicts = reward(**CUSTOM, workers=1).score(to_items(*["pid"] * 5))
    assert len({verdict.value for verdict in verdicts}) == 1


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("by_name", 1.0),
        ("everything", 1.0),
        ("swapped", 1.0),
        ("other_names", 1.0),
        ("by_place", 1.0),
        ("later", 0.0),
    ],
)
def test_what_a_function_is_called_with(reward, to_items, function, value):
    service = reward(**{**CUSTOM, "custom_function": function})
    assert service.score(to_items("r", level="5")) == [Verdict(value)]


def test_an_async_function_that_never_ends(reward, to_items):
    [verdict] = reward(**{**CUSTOM, "custom_function": "never"}, timeout_s=0.5).score(to_items("r"))
    assert verdict.reason == "no verdict within 0.5 s (reward.timeout_s)"


def test_two_unknown_names_are_the_pair_and_three_are_a_mistake(reward, to_items):
    two, three = (
        reward(**{**CUSTOM, "custom_function": name}).score(to_items("r"))
        for name in ("asks_for_more", "asks_for_much")
    )
    assert two == [Verdict(1.0)]
    assert three[0].reason == (
        "the function asks for `subject`, `topic`, but there are `response`, `reference`,"
        " `question`, `metadata`, `messages`"
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"custom_module": "nowhere"},
            r"`nowhere.misbehave`: ModuleNotFoundError: No module named",
        ),
        ({"custom_function": "nothing"}, r"LookupError: the module `mine` has no `nothing`"),
        ({"custom_function": "number"}, r"TypeError: `mine.number` is a int, not a function"),
        ({"custom_module": "broken"}, r"ZeroDivisionError: division by zero"),
        ({"custom_module": "leaving"}, r"the process that loads it ended \(exit status 5\)"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_told_before_training(reward, settings, problem):
    with pytest.raises(PluginError, match=problem) as caught:
        reward(**{**CUSTOM, **settings})
    assert str(caught.value).startswith("reward.custom_module: `")


def test_the_module_must_be_named(reward):
    with pytest.raises(ConfigError, match=r"custom_module: the reward `custom` needs the module"):
        reward(type="custom")


def test_an_example_that_cannot_be_sent_costs_only_itself(reward, to_items):
    items = [*to_items("ab"), *to_items("ab", level=object()), *to_items("abc")]
    verdicts = reward(**CUSTOM).score(items)
    assert [verdict.value for verdict in verdicts] == [2.0, None, 3.0]
    assert "not JSON serializable" in verdicts[1].reason
