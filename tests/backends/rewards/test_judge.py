import os

import pytest

pytest.importorskip("openai")

from retrain_backends.errors import ConfigError
from retrain_backends.rewards.judge import read_verdict

KEY = "sk-not-a-real-key"


@pytest.fixture(autouse=True)
def environment():
    """The variables that a judge reads, as they were afterwards."""
    before = dict(os.environ)
    os.environ.pop("OPENAI_BASE_URL", None)
    os.environ["OPENAI_API_KEY"] = KEY
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def judge(reward, endpoint):
    """Makes a judge that asks the endpoint."""

    def make(**settings):
        settings = {"judge_url": endpoint.url, "timeout_s": 5.0, **settings}
        return reward(type="judge", judge_model="a-judge", **settings)

    return make


def test_yes_and_no(judge, endpoint, to_items):
    verdicts = judge().score(to_items(r"so \boxed{7}", r"so \boxed{8}", "7", ""))
    assert [verdict.value for verdict in verdicts] == [1.0, 0.0, 1.0, 0.0]
    assert verdicts[0].text == '{"reason": "so it is", "verdict": "yes"}'
    request = endpoint.seen[0]
    assert request["model"] == "a-judge"
    assert request["key"] == f"Bearer {KEY}"
    assert request["response_format"]["type"] == "json_schema"
    assert request["shown"].keys() == {"question", "reference_answer", "student_answer"}


def test_the_same_is_asked_once(judge, endpoint, to_items):
    service = judge()
    again = to_items(*[r"\boxed{8}", r"thus \boxed{8}"] * 10)
    verdicts = service.score(again) + service.score(again)
    assert {verdict.value for verdict in verdicts} == {0.0}
    assert len({verdict.text for verdict in verdicts}) == len(endpoint.seen) == 1


@pytest.mark.parametrize(
    ("question", "requests"),
    [("is busy once", 2), ("garbage once", 2), ("takes no options", 2), ("thinks aloud", 1)],
)
def test_what_is_overcome(judge, endpoint, to_items, question, requests):
    [verdict] = judge().score(to_items("7", question=question))
    assert verdict.value == 1.0
    assert len(endpoint.seen) == requests


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("hangs", "gave no answer within 2 s (reward.timeout_s)"),
        ("trickles", "gave no answer within 2 s (reward.timeout_s)"),
        ("is busy", "answered 429: "),
        ("fails", "answered 500: "),
        ("refuses", "answered 401: "),
        ("garbage", "gave neither yes nor no: 'I like turtles.'"),
        ("another format", "sent an invalid reply: not a chat completion: "),
        ("a web page", "sent an invalid reply: not a chat completion: '<html>hello</html>'"),
        ("broken json", "sent an invalid reply: "),
    ],
)
def test_a_judge_who_fails_gives_no_verdict(judge, endpoint, to_items, question, reason):
    service = judge(timeout_s=2.0)
    items = [*to_items("7", "8"), *to_items("7", question=question), *to_items("9", "7")]
    first, second, bad, *others = service.score(items)
    assert [v.value for v in (first, second, *others)] == [1.0, 0.0, 0.0, 1.0]
    assert bad.value is None
    assert reason in bad.reason
    assert KEY not in bad.reason
    assert "\n" not in bad.reason


def test_nobody_there(judge, to_items, environment):
    credentials = "user:secret"
    environment["OPENAI_BASE_URL"] = f"http://{credentials}@127.0.0.1:9/v1"
    [verdict] = judge(timeout_s=1.0, judge_url="").score(to_items("7"))
    assert verdict.value is None
    assert verdict.reason.startswith("the judge http://127.0.0.1:9/v1 ")
    assert "secret" not in verdict.reason


def test_a_key_in_the_query_of_the_variable_is_refused(judge, environment):
    environment["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1?api_key=secret"
    with pytest.raises(ConfigError, match=r"OPENAI_BASE_URL is .*OPENAI_API_KEY") as caught:
        judge(judge_url="")
    assert "secret" not in str(caught.value)


def test_an_address_that_an_error_repeats_has_no_key(judge, to_items, endpoint):
    [verdict] = judge().score(to_items("7", question="repeats"))
    assert "answered 400: " in verdict.reason
    assert "secret" not in verdict.reason


def test_options_that_were_refused_are_not_tried_again(judge, endpoint, to_items):
    service = judge()
    service.score(to_items("7", question="takes no options"))
    service.score(to_items("8", question="takes no options"))
    assert ["response_format" in request for request in endpoint.seen] == [True, False, False]


def test_the_endpoint_of_the_environment(judge, endpoint, to_items, environment):
    environment["OPENAI_BASE_URL"] = endpoint.url
    del environment["OPENAI_API_KEY"]
    assert judge(judge_url="").score(to_items("7"))[0].value == 1.0


def test_long_answers_are_cut(judge, endpoint, to_items):
    judge().score(to_items("x" * 10_000_000 + "7"))
    assert endpoint.seen[0]["shown"]["student_answer"] == "x" * 7_999 + "7"


def test_model_and_endpoint_must_be_known(reward, environment):
    del environment["OPENAI_API_KEY"]
    with pytest.raises(ConfigError) as caught:
        reward(type="judge")
    assert [problem[:18] for problem in caught.value.problems] == [
        "reward.judge_model",
        "reward.judge_url: ",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"verdict": "yes"}', 1.0),
        ('{"reason": "a {b}", "verdict": "No"}', 0.0),
        ('{"verdict": "yes"} no wait {"verdict": "no"}', 0.0),
        ('{"verdict": "perhaps"}', None),
        ("yes", None),
        ("", None),
        ("{" * 100_000, None),
    ],
)
def test_reading_a_verdict(text, value):
    assert read_verdict(text) == value
