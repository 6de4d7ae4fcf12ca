import pytest

from retrain_backends.config import load_config
from retrain_backends.config.credentials import without_credentials
from retrain_backends.config.describe import fields_by_path
from retrain_backends.errors import ConfigError

SECRET = "sk-abc123"
ADDRESSES = [name for name, doc in fields_by_path().items() if "http://" in doc.allowed]
TABLES = [name for name, doc in fields_by_path().items() if "a JSON object" in doc.allowed]


def problem(name, value):
    with pytest.raises(ConfigError) as caught:
        load_config(None, {name: value})
    [line] = caught.value.problems
    assert SECRET not in line
    return line


def test_there_are_addresses_and_tables():
    assert {"model.base_url", "reward.judge_url", "inference.url"} <= set(ADDRESSES)
    assert {"environment.args", "backend.options", "campaign.executor_options"} <= set(TABLES)


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("end", ["?api_key={}", "?x=1&token={}", "#{}", "?{}"])
def test_an_address_has_no_key_in_its_query(name, end):
    line = problem(name, f"http://localhost:8000/v1{end.format(SECRET)}")
    assert "a key belongs in" in line
    assert "http://localhost:8000/v1" in line


def test_the_variable_of_a_key_is_named():
    assert "OPENAI_API_KEY" in problem("reward.judge_url", f"http://localhost/?api_key={SECRET}")
    assert "TINKER_API_KEY" in problem("model.base_url", f"http://localhost/?api_key={SECRET}")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    ("table", "key", "variable"),
    [
        ({"api_key": SECRET}, "api_key", "API_KEY"),
        ({"OPENAI_API_KEY": SECRET}, "OPENAI_API_KEY", "OPENAI_API_KEY"),
        ({"hf_token": SECRET}, "hf_token", "HF_TOKEN"),
        ({"a": [{"judge": {"password": SECRET}}]}, "a.judge.password", "PASSWORD"),
        ({"url": f"http://localhost/v1?key={SECRET}"}, "url", "URL"),
        ({"url": f"http://_:{SECRET}@localhost/v1"}, "url", "URL"),
    ],
)
def test_a_table_has_no_key(name, table, key, variable):
    line = problem(name, table)
    assert f"contains `{key}`, which would be written to files" in line
    assert variable in line


def test_a_table_that_is_wrong_is_shown_without_its_keys():
    assert "***" in problem("environment.args", f'{{"api_key": "{SECRET}"')


@pytest.mark.parametrize(
    "table",
    [
        {"judge_api_key_var": "OPENAI_API_KEY"},
        {"eos_token": "</s>", "max_tokens": 5, "answer_key": "b", "tokenizer": "x"},
        {"api_key": "", "token": None, "password": True},
        {"url": "http://localhost:8000/v1", "text": "a@b.c?"},
    ],
)
def test_other_keys_are_left_alone(table):
    assert load_config(None, {"environment.args": table}).environment.args == table


def test_a_condition_of_a_campaign_has_no_key_either():
    modes = {"advantage_mode": "grpo", "transform_mode": "none"}
    conditions = [{**modes, "environment": {"args": {"api_key": SECRET}}}]
    line = problem("campaign.conditions", conditions)
    assert "contains `args.api_key`" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"GET http://localhost/v1?api_key={SECRET} failed", "GET http://localhost/v1?... failed"),
        (f"http://_:{SECRET}@localhost/v1", "http://...@localhost/v1"),
        (f"headers: Authorization: Bearer {SECRET}, x", "headers: Authorization: ***, x"),
        (f"{{'api_key': '{SECRET}', 'n': 1}}", "{'api_key': ***, 'n': 1}"),
        ("5 tokens: 3 and http://localhost/v1", "5 tokens: 3 and http://localhost/v1"),
    ],
)
def test_messages_without_credentials(text, shown):
    assert without_credentials(text) == shown
