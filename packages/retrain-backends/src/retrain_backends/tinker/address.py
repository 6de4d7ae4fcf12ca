"""The address of a service and its key, from the settings and the environment."""

import os
import re
from dataclasses import dataclass, field

import httpx
from pydantic import TypeAdapter, ValidationError

from retrain_backends.config.credentials import without_credentials
from retrain_backends.config.section import ADDRESS, Url
from retrain_backends.errors import ConfigError, RunError, describe

_OWN_KEY = "tml-none"  # a self-hosted server takes any key, but the SDK requires this form
# What the SDK accepts: an API key or a login token. Another character would make every header
# invalid, which the SDK reports as a broken connection.
_KEY = re.compile(r"(tml-|eyJ)[!-~]+")
_REACH_S = 10.0  # time limit of the first request


@dataclass(frozen=True)
class Address:
    """The URL of a service (None: the SDK's own) and its key, which is never shown.

    `setting` names where the URL was set.
    """

    url: str | None
    key: str = field(repr=False)
    setting: str = "model.base_url"

    @property
    def endpoint(self) -> str:
        """The address, for messages."""
        return self.url.rstrip("/") if self.url else "the Tinker service"

    def refuse_unreachable(self) -> None:
        """Send one request, since the SDK retries for minutes where there is no server.

        Raises:
          ConfigError: the URL is invalid.
          RunError: nothing answers.
        """
        if not self.url:
            return
        try:
            httpx.get(self.url, timeout=_REACH_S, follow_redirects=False)
        except httpx.InvalidURL as error:
            raise ConfigError(
                f"{self.setting}: `{self.url}` is not an address ({error})"
            ) from error
        except httpx.HTTPError as error:
            raise RunError(
                f"{self.endpoint} cannot be reached ({describe(error)}); start the server, or "
                f"correct {self.setting}"
            ) from error


def find_address(base_url: str) -> Address:
    """The address that is set, else that of the environment, else Tinker's own.

    Raises:
      ConfigError: there is no key, or the environment has an invalid address or key.
    """
    if base_url:
        return Address(base_url, _key() or _OWN_KEY)
    if url := os.environ.get("TINKER_BASE_URL", "").strip():
        try:
            TypeAdapter(Url).validate_python(url)
        except ValidationError as error:
            raise ConfigError(
                f"TINKER_BASE_URL is `{without_credentials(url)}`; it must be {ADDRESS}; a key goes"
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
            "TINKER_API_KEY is not a key of Tinker: keys begin with `tml-` and have neither spaces"
            " nor characters beyond ASCII; copy it again"
        )
    return key
