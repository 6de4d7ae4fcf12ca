import os
import subprocess
import sys
import time

import pytest

from retrain_backends.errors import RunError
from retrain_backends.rewards.service import RewardService
from retrain_backends.types import Verdict

CUSTOM = {"type": "custom", "custom_module": "mine", "custom_function": "misbehave"}


class Calls:
    """Counts its calls; no verdict for `bad`."""

    def __init__(self):
        self.calls = 0

    def score(self, items):
        self.calls += 1
        return [
            Verdict(None, "it is bad") if item.completion == "bad" else Verdict(1.0)
            for item in items
        ]


def test_a_plugin_gets_the_items_of_a_step_together(to_items):
    plugin = Calls()
    service = RewardService(plugin, 1.0)
    tickets = [service.submit(to_items("a", "bad")), service.submit(to_items("c"))]
    assert plugin.calls == 0
    assert [verdict.value for verdict in service.collect(tickets)] == [1.0, None, 1.0]
    assert plugin.calls == 1


def test_groups_that_were_handed_in_out_of_order_come_back_in_order(reward, to_items):
    service = reward(**CUSTOM)
    late, early = (service.submit(to_items(*texts)) for texts in (["abc", "abcd"], ["a", "ab"]))
    assert [v.value for v in service.collect([early, late])] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("rate", "stops"), [(0.0, True), (0.24, True), (0.25, False), (1.0, False)]
)
def test_too_many_failures_stop_the_run(to_items, rate, stops):
    service, items = RewardService(Calls(), rate), to_items("a", "b", "bad", "d")
    if not stops:
        assert [verdict.value for verdict in service.score(items)] == [1.0, 1.0, None, 1.0]
        return
    with pytest.raises(RunError) as caught:
        service.score(items)
    assert str(caught.value) == (
        "reward: 1 of 4 completions have no verdict, more than reward.max_failure_rate allows:"
        " 1 x it is bad (such as reference '7', response 'bad')"
    )


def test_the_most_frequent_reasons_come_first_and_long_texts_are_cut(reward, to_items):
    service = reward(**CUSTOM, max_failure_rate=0.99)
    with pytest.raises(RunError) as caught:
        service.score(to_items("raises", "none", "none", reference="7\n" * 100))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    assert text.index("2 x it returned None") < text.index("1 x ZeroDivisionError")


def test_what_is_down_is_not_asked_to_the_end(reward, to_items):
    service = reward(**CUSTOM, max_failure_rate=0.1, workers=1, timeout_s=1.0)
    with pytest.raises(RunError, match=r"\d+ of 60 completions have no verdict"):
        service.score(to_items(*["sleeps"] * 60))


def test_nothing_to_judge(reward):
    assert RewardService(Calls(), 0.0).score([]) == []
    assert reward(**CUSTOM).score([]) == []


def test_closing_ends_the_processes_and_may_come_twice(reward, to_items):
    service = reward(**CUSTOM)
    pids = {verdict.value for verdict in service.score(to_items(*["pid"] * 20))}
    service.submit(to_items(*["sleeps"] * 20))
    service.close()
    service.close()
    assert not any(is_alive(int(pid)) for pid in pids)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_that_is_killed_leaves_no_process_behind(user_module):
    program = """
from retrain_backends.config import RewardConfig
from retrain_backends.rewards import build_reward
from retrain_backends.types import Example, Rollout

config = RewardConfig(type="custom", custom_module="mine", custom_function="misbehave", workers=1)
service = build_reward(config)
items = [Rollout(Example("q", "7"), text) for text in ("pid", "spins")]
[future, _] = service.submit(items).futures
print(int(future.result().value), flush=True)
service.submit(items[1:] * 5).futures[0].result()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=user_module) as process:
        judging = int(process.stdout.readline())
        assert is_alive(judging)
        process.kill()
    while is_alive(judging):
        time.sleep(0.01)
