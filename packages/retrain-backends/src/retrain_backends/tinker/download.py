"""An adapter from a service as a PEFT directory on this machine."""

import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import sleep

import httpx

from retrain_backends.errors import RunError, describe

_CONFIG = "adapter_config.json"
_TIMEOUT = httpx.Timeout(30.0, read=120.0)  # between two pieces of a file
_PAUSES_S = (0.5, 2.0, 8.0, 30.0)  # before a file is asked for again


def download_adapter(
    urls: Mapping[str, str], directory: Path, pauses_s: Sequence[float] = _PAUSES_S
) -> None:
    """Fetch the files of an adapter; what fails is tried again where that may help.

    Args:
      urls: of the files, by their path in the adapter; "" is a tar archive of them all.
      directory: where they go, flat, as PEFT wants them.
      pauses_s: before each further try.

    Raises:
      RunError: a file cannot be fetched, or there is no adapter among them.
    """
    with TemporaryDirectory(dir=directory.parent, prefix=".download_") as passing:
        for name, url in urls.items():
            _fetch(url, name, Path(passing), pauses_s)
        found = next(Path(passing).rglob(_CONFIG), None)
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
    # A border: the network, and somebody else's archive.
    try:
        _stream(url, target, pauses_s)
        if not name:
            with tarfile.open(target) as archive:
                archive.extractall(directory, filter="data")
            target.unlink()
    except (httpx.HTTPError, tarfile.TarError) as error:
        # The address may hold a signature that opens it to everybody, so it is not told.
        kind = f"{error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
        reason = kind or describe(error).replace(url, "…")
        raise RunError(f"{safe} cannot be downloaded ({reason})") from error


def _stream(url: str, target: Path, pauses_s: Sequence[float]) -> None:
    for pause_s in (*pauses_s, None):
        try:
            with httpx.stream("GET", url, timeout=_TIMEOUT, follow_redirects=True) as answer:
                answer.raise_for_status()
                with target.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                return
        except httpx.HTTPError as error:
            if pause_s is None or not _may_pass(error):
                raise
            sleep(pause_s)


def _may_pass(error: httpx.HTTPError) -> bool:
    """Whether asking again may help: a broken connection, or a server that is too busy."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status == httpx.codes.TOO_MANY_REQUESTS or status >= 500
    return isinstance(error, httpx.TransportError)
