"""Where a service is, and the key to it: from the settings and the environment."""

import os
import re
from dataclasses import dataclass, field

import httpx
from pydantic import TypeAdapter, ValidationError

from retrain_backends.config.section import ADDRESS, Url, without_password
from retrain_backends.errors import ConfigError, RunError, describe

_OWN_KEY = "tml-none"  # a server of one's own takes any key, but the SDK wants one of this form
# What the SDK takes: a key, or a token of somebody who has logged in. Another character would break
# every header that it is sent in, which the SDK takes for a broken connection.
_KEY = re.compile(r"(tml-|eyJ)[!-~]+")
_REACH_S = 10.0  # longest that finding out whether there is an endpoint at all may take


@dataclass(frozen=True)
class Address:
    """Where a service is (None: where the SDK says), and the key to it, which is never shown.

    `setting` is where the address was set.
    """

    url: str | None
    key: str = field(repr=False)
    setting: str = "model.base_url"

    @property
    def endpoint(self) -> str:
        """The address, for messages."""
        return self.url.rstrip("/") if self.url else "the Tinker service"

    def refuse_unreachable(self) -> None:
        """Ask once for anything: the SDK goes on asking where there is no server for minutes.

        Raises:
          ConfigError: this is no address.
          RunError: nothing answers.
        """
        if not self.url:
            return
        try:
            httpx.get(self.url, timeout=_REACH_S, follow_redirects=False)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{self.setting}: `{self.url}` is no address ({error})") from error
        except httpx.HTTPError as error:
            raise RunError(
                f"{self.endpoint} cannot be reached ({describe(error)}); start the server, or "
                f"correct {self.setting}"
            ) from error


def find_address(base_url: str) -> Address:
    """The address that is set, else the one that the environment names, else Tinker's own.

    Raises:
      ConfigError: there is no key, or what the environment has is no address or no key.
    """
    if base_url:
        return Address(base_url, _key() or _OWN_KEY)
    if url := os.environ.get("TINKER_BASE_URL", "").strip():
        try:
            TypeAdapter(Url).validate_python(url)
        except ValidationError as error:
            raise ConfigError(
                f"TINKER_BASE_URL is `{without_password(url)}`; it must be {ADDRESS}; a key goes"
                " into TINKER_API_KEY"
            ) from error
        return Address(url, _key() or _OWN_KEY, "TINKER_BASE_URL")
    if key := _key():
        return Address(None, key)
    raise ConfigError(
        "backend.backend: `tinker` needs a key: set TINKER_API_KEY (it may be in .env), or"
        " model.base_url to use a server of your own"
    )


def _key() -> str:
    key = os.environ.get("TINKER_API_KEY", "").strip()
    if key and not _KEY.fullmatch(key):
        raise ConfigError(
            "TINKER_API_KEY is no key of Tinker's: they begin with `tml-` and have neither spaces"
            " nor characters beyond ASCII; copy it again"
        )
    return key
