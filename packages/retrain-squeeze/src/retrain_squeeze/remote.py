"""A `tinker://` adapter through the official SDK, and all that is known here of SDK versions.

Until 0.36 the service packs any checkpoint into an archive. From then on only external weights can
be fetched, file by file; a training checkpoint is restored, exported as such and fetched, which is
what the SDK's own command does. Sampler weights cannot be fetched any more.
"""

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import tinker

from retrain_squeeze.download import download_adapter
from retrain_squeeze.errors import DownloadError, SqueezeConfigError, SqueezeError, describe

_PATH = re.compile(r"tinker://(?P<run>[^/]+)/(?P<kind>\w+)/(?P<name>.+)")
_URL = re.compile(r"https?://[!-?A-~]+")
_KINDS = ("weights", "external_weights", "sampler_weights")
_OWN_KEY = "tml-none"  # a server of one's own takes any key, but the SDK wants one of this form
# What the SDK takes: a key, or a token of somebody who has logged in. Another character would break
# every header that it is sent in, which the SDK takes for a broken connection.
_KEY = re.compile(r"(tml-|eyJ)[!-~]+")
_REACH_S = 10.0
_TIMEOUT_S = 600.0  # for each answer, the SDK's own retries included
_TEMPORARY_S = 3600  # the shortest life that the service gives an export
# From 0.38 on there is a client without a session for what is not training.
_HAS_REST_CLIENT = hasattr(tinker, "RestClient") and (
    "api_key" in inspect.signature(tinker.RestClient).parameters
)


@dataclass(frozen=True)
class Address:
    """Where a service is (None: where the SDK says), and the key to it, which is never shown.

    `setting` is where the address was set.
    """

    url: str | None
    key: str = field(repr=False)
    setting: str = "base_url"

    @property
    def endpoint(self) -> str:
        """The address, for messages."""
        return self.url.rstrip("/") if self.url else "the Tinker service"


def fetch_adapter(path: str, base_url: str, directory: Path) -> Path:
    """Download the adapter that a `tinker://` path names.

    Args:
      path: `tinker://RUN/weights/NAME`, or `external_weights`, or with older SDKs
        `sampler_weights`.
      base_url: of the service; "" takes TINKER_BASE_URL or the public one.
      directory: an empty one, for its files.

    Returns:
      The directory in it that holds the PEFT adapter.

    Raises:
      SqueezeConfigError: no such kind of path, or no key.
      DownloadError: the service or the network does not give it.
    """
    kind = _kind(path)
    address = _address(base_url)
    if address.url:
        _refuse_unreachable(address.url, address.setting)
    with _telling(address.endpoint, path), _addresses(path, kind, address) as urls:
        return download_adapter(urls, directory)


def _kind(path: str) -> str:
    match = _PATH.fullmatch(path)
    if match is None or match["kind"] not in _KINDS:
        raise SqueezeConfigError(
            f"{path} is no path of an adapter; they look like tinker://RUN/weights/NAME "
            "or tinker://RUN/external_weights/NAME"
        )
    return match["kind"]


def _address(base_url: str) -> Address:
    url = base_url or os.environ.get("TINKER_BASE_URL", "").strip()
    setting = "base_url" if base_url else "TINKER_BASE_URL"
    if url and not _URL.fullmatch(url):
        shown = re.sub(r"(?<=://).*@", "...@", url)  # without what may be a password
        raise SqueezeConfigError(
            f"{setting} is `{shown}`; it must be an address that starts with http:// or https://, "
            "with no user or password before an `@`; a key goes into TINKER_API_KEY"
        )
    key = os.environ.get("TINKER_API_KEY", "").strip()
    if key and not _KEY.fullmatch(key):
        raise SqueezeConfigError(
            "TINKER_API_KEY is no key of Tinker's: they begin with `tml-` and have neither spaces "
            "nor characters beyond ASCII; copy it again"
        )
    if not key and not url:
        raise SqueezeConfigError(
            "a tinker:// adapter needs a key: set TINKER_API_KEY, or base_url (in [model]) to use "
            "a server of your own"
        )
    return Address(url or None, key or _OWN_KEY, setting)


@contextmanager
def _addresses(path: str, kind: str, address: Address) -> Iterator[Mapping[str, str]]:
    """Where the files can be fetched as long as the block lasts; "" is an archive of them all."""
    rest = _rest_client(address)
    if kind == "external_weights":
        yield _external_urls(rest, path)
    elif hasattr(rest, "get_checkpoint_archive_url_from_tinker_path"):
        yield {"": _resolved(rest.get_checkpoint_archive_url_from_tinker_path(path)).url}
    elif kind == "sampler_weights":
        raise SqueezeConfigError(
            f"{path}: sampler weights cannot be downloaded with tinker {tinker.__version__}; name "
            "the training checkpoint (tinker://RUN/weights/NAME), or train with "
            "[backend] options = { download_adapter = true }"
        )
    else:
        with _exported(path, address) as exported:
            try:
                yield _external_urls(rest, exported)
            finally:
                # It goes away by itself within the hour.
                with suppress(tinker.TinkerError, TimeoutError):
                    _resolved(rest.delete_checkpoint_from_tinker_path(exported))


@contextmanager
def _exported(path: str, address: Address) -> Iterator[str]:
    """A training checkpoint as external weights that live for an hour."""
    client = tinker.ServiceClient(base_url=address.url, api_key=address.key)
    try:
        trainer = _resolved(client.create_training_client_from_state(path))
        saving = trainer.save_weights_external("squeeze", ttl_seconds=_TEMPORARY_S)
        yield _resolved(saving).path
    finally:
        if hasattr(client, "close"):
            with suppress(tinker.TinkerError, RuntimeError, TimeoutError):
                _resolved(client.close("success"))


def _external_urls(rest: Any, path: str) -> Mapping[str, str]:
    if not hasattr(rest, "get_external_weights_urls"):
        raise SqueezeConfigError(
            f"{path}: external weights need tinker 0.28.1 or newer, here is {tinker.__version__}; "
            "pip install --upgrade tinker"
        )
    return _resolved(rest.get_external_weights_urls(path)).urls


def _rest_client(address: Address) -> Any:
    if _HAS_REST_CLIENT:
        return tinker.RestClient(base_url=address.url, api_key=address.key)
    service = tinker.ServiceClient(base_url=address.url, api_key=address.key)
    return service.create_rest_client()


def _resolved(answer: Any) -> Any:
    """What a call comes to: newer SDKs answer with a future where older ones wait themselves."""
    return answer.result(_TIMEOUT_S) if hasattr(answer, "result") else answer


@contextmanager
def _telling(endpoint: str, path: str) -> Iterator[None]:
    """A border: somebody else's library and network. What fails becomes one line."""
    try:
        yield
    except SqueezeError:
        raise
    except Exception as error:
        raise _error(error, endpoint, path) from error


def _error(error: Exception, endpoint: str, path: str) -> SqueezeError:
    match error:
        case tinker.AuthenticationError() | tinker.PermissionDeniedError():
            return SqueezeConfigError(
                f"{endpoint} refuses the key ({error.status_code}); set TINKER_API_KEY to one that"
                " it takes"
            )
        case tinker.NotFoundError():
            return SqueezeConfigError(f"{endpoint} has no adapter {path} (404)")
        case tinker.APIStatusError():
            reason = f"it answered {error.status_code}, retries included"
        case tinker.RequestFailedError():  # the SDK adds names of its own variables
            reason = error.message.partition(" for self.")[0]
        case TimeoutError():
            reason = f"no answer within {_TIMEOUT_S:.0f} s"
        case tinker.APIConnectionError():
            reason = f"no connection, retries included ({error.message})"
        case _:
            reason = describe(error)
    return DownloadError(f"{endpoint}: fetching {path}: {reason}")


def _refuse_unreachable(url: str, setting: str) -> None:
    """Ask once for anything: the SDK goes on asking an address without a server for minutes."""
    try:
        httpx.get(url, timeout=_REACH_S, follow_redirects=False)
    except httpx.InvalidURL as error:
        raise SqueezeConfigError(f"{setting}: `{url}` is no address ({error})") from error
    except httpx.HTTPError as error:
        raise DownloadError(
            f"{url.rstrip('/')} cannot be reached ({describe(error)}); start the server, or correct"
            f" {setting}"
        ) from error
