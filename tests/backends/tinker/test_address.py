import pytest

from retrain_backends.errors import ConfigError, RunError
from retrain_backends.tinker.address import Address, find_address

NO_KEY = "TINKER_API_KEY is not a key of Tinker: keys begin with `tml-`"


@pytest.fixture
def environment(monkeypatch):
    """`environment(key=..., url=...)`: what the variables say; unset unless given."""
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)

    def say(key=None, url=None):
        for name, value in (("TINKER_API_KEY", key), ("TINKER_BASE_URL", url)):
            if value is not None:
                monkeypatch.setenv(name, value)

    return say


def test_a_setting_goes_before_the_environment(environment):
    environment(key="tml-x", url="http://localhost:2")
    assert find_address("http://localhost:1") == Address("http://localhost:1", "tml-x")
    assert find_address("") == Address("http://localhost:2", "tml-x", "TINKER_BASE_URL")


def test_a_server_of_ones_own_needs_no_key(environment):
    environment()
    assert find_address("http://localhost:1").key == "tml-none"
    with pytest.raises(ConfigError, match="needs a key: set TINKER_API_KEY"):
        find_address("")


def test_space_around_a_key_is_left_out(environment):
    environment(key=" tml-x\n")
    assert find_address("").key == "tml-x"


@pytest.mark.parametrize("key", ["abc-hush", "tml-hush\u00fc", "tml-hu sh", "tml-"])
def test_what_is_no_key_is_refused_and_not_shown(environment, key):
    environment(key=key)
    with pytest.raises(ConfigError, match=NO_KEY) as told:
        find_address("http://localhost:1")
    assert "hu" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [("here:8000", "here:8000"), ("http://_:hush@localhost", "http://...@localhost")],
)
def test_a_variable_that_is_no_address_is_named(environment, url, shown):
    environment(url=url)
    with pytest.raises(ConfigError) as told:
        find_address("")
    assert str(told.value).startswith(f"TINKER_BASE_URL is `{shown}`; it must be an address that")


@pytest.mark.parametrize(("url", "kind"), [("http://[::1", ConfigError), ("http://:1", RunError)])
def test_the_setting_to_correct_is_named(url, kind):
    with pytest.raises(kind, match="TINKER_BASE_URL"):
        Address(url, "tml-x", "TINKER_BASE_URL").refuse_unreachable()
