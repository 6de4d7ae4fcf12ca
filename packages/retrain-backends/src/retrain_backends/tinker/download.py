"""Downloads an adapter from a service as a PEFT directory."""

import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import sleep

import httpx

from retrain_backends.errors import RunError, describe

_CONFIG = "adapter_config.json"
_TIMEOUT = httpx.Timeout(30.0, read=120.0)  # between two chunks of a file
_PAUSES_S = (0.5, 2.0, 8.0, 30.0)  # before each further try of a file


def download_adapter(
    urls: Mapping[str, str], directory: Path, pauses_s: Sequence[float] = _PAUSES_S
) -> None:
    """Fetch the files of an adapter, with further tries after errors that may be temporary.

    Args:
      urls: of the files, by their path in the adapter; "" is a tar archive of all files.
      directory: gets the files, without subdirectories, as PEFT needs them.
      pauses_s: before each further try.

    Raises:
      RunError: a file cannot be fetched, or none of them is an adapter's configuration.
    """
    with TemporaryDirectory(dir=directory.parent, prefix=".download_") as temporary:
        for name, url in urls.items():
            _fetch(url, name, Path(temporary), pauses_s)
        found = next(Path(temporary).rglob(_CONFIG), None)
        if found is None:
            raise RunError(f"the adapter that the service sent has no {_CONFIG}")
        for file in found.parent.iterdir():
            shutil.move(file, directory / file.name)


def _fetch(url: str, name: str, directory: Path, pauses_s: Sequence[float]) -> None:
    safe = PurePosixPath(name or "adapter.tar")
    if safe.is_absolute() or ".." in safe.parts:
        raise RunError(f"the service names a file of the adapter `{name}`, outside of it")
    target = directory / safe
    target.parent.mkdir(parents=True, exist_ok=True)
    # A border: the network and an archive of the service.
    try:
        _stream(url, target, pauses_s)
        if not name:
            with tarfile.open(target) as archive:
                archive.extractall(directory, filter="data")
            target.unlink()
    except (httpx.HTTPError, tarfile.TarError) as error:
        # The URL may be signed, so it is not shown.
        kind = f"{error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
        reason = kind or describe(error).replace(url, "…")
        raise RunError(f"{safe} cannot be downloaded ({reason})") from error


def _stream(url: str, target: Path, pauses_s: Sequence[float]) -> None:
    for pause_s in (*pauses_s, None):
        try:
            with httpx.stream("GET", url, timeout=_TIMEOUT, follow_redirects=True) as response:
                response.raise_for_status()
                with target.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                return
        except httpx.HTTPError as error:
            if pause_s is None or not _is_temporary(error):
                raise
            sleep(pause_s)


def _is_temporary(error: httpx.HTTPError) -> bool:
    """Whether the error may be temporary: a broken connection or a busy server."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status == httpx.codes.TOO_MANY_REQUESTS or status >= 500
    return isinstance(error, httpx.TransportError)
