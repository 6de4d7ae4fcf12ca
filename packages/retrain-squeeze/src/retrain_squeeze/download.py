"""Download the files of an adapter from signed URLs."""

import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import httpx

from retrain_squeeze.errors import DownloadError, describe

_CONFIG = "adapter_config.json"
_TIMEOUT = httpx.Timeout(30.0, read=120.0)  # read: between two chunks of a file


def download_adapter(urls: Mapping[str, str], directory: Path) -> Path:
    """Download the files of an adapter.

    Nothing is written outside `directory`, whatever names the service returns, and messages omit
    the URLs, because anybody can use a signed URL to read the file.

    Args:
      urls: URL of each file by its path in the adapter; "" is a tar archive of all files.
      directory: where the files are written.

    Returns:
      The directory below `directory` that contains the adapter.

    Raises:
      DownloadError: a file cannot be downloaded, or the files are not an adapter.
    """
    for name, url in urls.items():
        target = _safe_target(name or "adapter.tar", directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, target)
        if not name:
            _unpack(target, directory)
    found = min(directory.rglob(_CONFIG), default=None)
    if found is None:
        sent = sorted(str(f.relative_to(directory)) for f in directory.rglob("*") if f.is_file())
        raise DownloadError(
            f"the service did not send a PEFT adapter: {_CONFIG} is missing"
            f" (received: {', '.join(sent[:5]) or 'no files'})"
        )
    return found.parent


def _safe_target(name: str, directory: Path) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DownloadError(
            f"the service sent the file name `{name}`, which is outside of the adapter"
        )
    return directory / path


def _fetch(url: str, target: Path) -> None:
    # A border: the network, and URLs from a service.
    try:
        with (
            httpx.stream("GET", url, timeout=_TIMEOUT, follow_redirects=True) as response,
            target.open("wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                file.write(chunk)
    except httpx.HTTPStatusError as error:
        raise DownloadError(
            f"{target.name} cannot be downloaded: the server returned {error.response.status_code}"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = describe(error).replace(url, "…")
        raise DownloadError(f"{target.name} cannot be downloaded ({reason})") from None


def _unpack(archive: Path, directory: Path) -> None:
    """Write the files of an archive; links are left out."""
    try:
        with tarfile.open(archive) as members:
            for member in members:
                content = members.extractfile(member) if member.isfile() else None
                if content is not None:
                    target = _safe_target(member.name, directory)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        shutil.copyfileobj(content, file)
    except tarfile.TarError as error:
        raise DownloadError(
            f"the archive of the adapter cannot be unpacked ({describe(error)})"
        ) from error
    archive.unlink()
