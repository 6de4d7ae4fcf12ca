"""Download a `tinker://` adapter with the official SDK.

Until SDK 0.36 the service packs any checkpoint into an archive. Since then only external weights
can be downloaded, file by file; a training checkpoint is restored, exported as external weights and
downloaded, as the SDK's own command does. Instead of sampler weights, which can no longer be
downloaded, the training checkpoint of the same name is: retrain saves both with the same name.
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

# SkyRL names sampler weights without their kind.
_PATH = re.compile(
    r"tinker://(?P<run>[^/]+)/(?:(?P<kind>weights|external_weights|sampler_weights)/)?(?P<name>[^/]+)"
)
_URL = re.compile(r'https?://[!"\x24->A-~]+')
_OWN_KEY = "tml-none"  # self-hosted servers accept any key, but the SDK requires this form
# A key, or the token of a login. Other characters make invalid headers, which the SDK reports as a
# connection error.
_KEY = re.compile(r"(tml-|eyJ)[!-~]+")
_REACH_S = 10.0
_TIMEOUT_S = 600.0  # for each call, including the SDK's retries
_TEMPORARY_S = 3600  # the shortest lifetime of an export that the service allows
# Since 0.38 a client without a session is available for calls other than training.
_HAS_REST_CLIENT = hasattr(tinker, "RestClient") and (
    "api_key" in inspect.signature(tinker.RestClient).parameters
)


@dataclass(frozen=True)
class TinkerService:
    """The URL of a service (None: the SDK's default), and its key, which is never shown.

    `setting` is the setting that the URL comes from.
    """

    url: str | None
    key: str = field(repr=False)
    setting: str = "base_url"

    @property
    def endpoint(self) -> str:
        """The service, for messages."""
        return self.url.rstrip("/") if self.url else "the Tinker service"


def fetch_adapter(path: str, base_url: str, directory: Path) -> Path:
    """Download the adapter that a `tinker://` path names.

    Args:
      path: `tinker://RUN/weights/NAME`, or `external_weights` or `sampler_weights`, or
        `tinker://RUN/NAME`.
      base_url: of the service; "": TINKER_BASE_URL, or the public service.
      directory: an empty directory for the files.

    Returns:
      The directory below `directory` that contains the PEFT adapter.

    Raises:
      SqueezeConfigError: the path, the URL or the key is invalid.
      DownloadError: the service or the network fails.
    """
    parts = _parts(path)
    service = _service(base_url)
    if service.url:
        _check_reachable(service.url, service.setting)
    with _translated_errors(service.endpoint, path), _file_urls(path, parts, service) as urls:
        return download_adapter(urls, directory)


def _parts(path: str) -> re.Match[str]:
    match = _PATH.fullmatch(path)
    if match is None:
        raise SqueezeConfigError(
            f"{path} is not the path of an adapter; use tinker://RUN/weights/NAME "
            "or tinker://RUN/external_weights/NAME"
        )
    return match


def _service(base_url: str) -> TinkerService:
    url = base_url or os.environ.get("TINKER_BASE_URL", "").strip()
    setting = "base_url" if base_url else "TINKER_BASE_URL"
    if url and not _URL.fullmatch(url):
        shown = re.sub(r"(?<=://).*@", "...@", url)  # may contain a password, or a key
        shown = re.sub(r"[?#].*", "?...", shown)
        raise SqueezeConfigError(
            f"{setting} is `{shown}`; it must be an address that starts with http:// or https://, "
            "with no user or password before an `@` and no query after a `?`; a key goes into "
            "TINKER_API_KEY"
        )
    key = os.environ.get("TINKER_API_KEY", "").strip()
    if key and not _KEY.fullmatch(key):
        raise SqueezeConfigError(
            "TINKER_API_KEY is not a Tinker key: keys begin with `tml-` and contain only printable "
            "ASCII characters; copy it again"
        )
    if not key and not url:
        raise SqueezeConfigError(
            "a tinker:// adapter needs a key: set TINKER_API_KEY, or base_url (in [model]) for "
            "your own server"
        )
    return TinkerService(url or None, key or _OWN_KEY, setting)


@contextmanager
def _file_urls(
    path: str, parts: re.Match[str], service: TinkerService
) -> Iterator[Mapping[str, str]]:
    """URLs of the files by path, valid inside the block; "" is an archive of all files."""
    rest = _rest_client(service)
    if parts["kind"] == "external_weights":
        yield _external_urls(rest, path)
    elif hasattr(rest, "get_checkpoint_archive_url"):
        # Not by the whole path, whose kind the SDK requires.
        checkpoint = path.removeprefix(f"tinker://{parts['run']}/")
        yield {"": _resolved(rest.get_checkpoint_archive_url(parts["run"], checkpoint)).url}
    else:
        with _exported(path, parts, service) as exported:
            try:
                yield _external_urls(rest, exported)
            finally:
                # If this fails, the service deletes the export within the hour.
                with suppress(tinker.TinkerError, TimeoutError):
                    _resolved(rest.delete_checkpoint_from_tinker_path(exported))


@contextmanager
def _exported(path: str, parts: re.Match[str], service: TinkerService) -> Iterator[str]:
    """The path of a training checkpoint exported as external weights, kept for an hour."""
    client = tinker.ServiceClient(base_url=service.url, api_key=service.key)
    try:
        state = f"tinker://{parts['run']}/weights/{parts['name']}"
        try:
            trainer = _resolved(client.create_training_client_from_state(state))
        except (tinker.NotFoundError, tinker.RequestFailedError) as error:
            if parts["kind"] == "weights":
                raise
            raise SqueezeConfigError(
                f"{path}: sampler weights cannot be downloaded with tinker {tinker.__version__},"
                f" and there is no training checkpoint {state}; name one, or train with [backend]"
                " options = { download_adapter = true }"
            ) from error
        saving = trainer.save_weights_external("squeeze", ttl_seconds=_TEMPORARY_S)
        yield _resolved(saving).path
    finally:
        if hasattr(client, "close"):
            with suppress(tinker.TinkerError, RuntimeError, TimeoutError):
                _resolved(client.close("success"))


def _external_urls(rest: Any, path: str) -> Mapping[str, str]:
    if not hasattr(rest, "get_external_weights_urls"):
        raise SqueezeConfigError(
            f"{path}: external weights need tinker 0.28.1 or newer, not {tinker.__version__}; "
            "pip install --upgrade tinker"
        )
    return _resolved(rest.get_external_weights_urls(path)).urls


def _rest_client(service: TinkerService) -> Any:
    if _HAS_REST_CLIENT:
        return tinker.RestClient(base_url=service.url, api_key=service.key)
    client = tinker.ServiceClient(base_url=service.url, api_key=service.key)
    return client.create_rest_client()


def _resolved(result: Any) -> Any:
    """The result of a call; newer SDKs return a future where older ones wait."""
    return result.result(_TIMEOUT_S) if hasattr(result, "result") else result


@contextmanager
def _translated_errors(endpoint: str, path: str) -> Iterator[None]:
    """A border: the SDK and the network. Every failure becomes an error of one line."""
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
                f"{endpoint} refuses the key ({error.status_code}); set TINKER_API_KEY to a valid"
                " one"
            )
        case tinker.NotFoundError():
            return SqueezeConfigError(f"{endpoint} has no adapter {path} (404)")
        case tinker.APIStatusError():
            reason = f"the service returned {error.status_code} after all retries"
        case tinker.RequestFailedError():  # without the SDK's variable names
            reason = error.message.partition(" for self.")[0]
        case TimeoutError():
            reason = f"no response within {_TIMEOUT_S:.0f} s"
        case tinker.APIConnectionError():
            reason = f"no connection after all retries ({error.message})"
        case _:
            reason = describe(error)
    return DownloadError(f"{endpoint}: fetching {path}: {reason}")


def _check_reachable(url: str, setting: str) -> None:
    """Send one request: without a server at the URL, the SDK retries for minutes."""
    try:
        httpx.get(url, timeout=_REACH_S, follow_redirects=False)
    except httpx.InvalidURL as error:
        raise SqueezeConfigError(f"{setting}: `{url}` is not a valid URL ({error})") from error
    except httpx.HTTPError as error:
        raise DownloadError(
            f"{url.rstrip('/')} cannot be reached ({describe(error)}); start the server, or correct"
            f" {setting}"
        ) from error
