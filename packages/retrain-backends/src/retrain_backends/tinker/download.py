"""Downloads an adapter from a service as a PEFT directory.

PEFT adapts the modules that `target_modules` names and skips the tensors of all others without an
error. Some servers leave the key null, which stands for a few modules of each architecture, so the
key is filled from the names of the tensors.
"""

import json
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import httpx
from safetensors import SafetensorError, safe_open

from retrain_backends.errors import RunError, describe

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
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
      RunError: a file cannot be fetched, or the files are not those of an adapter.
    """
    with TemporaryDirectory(dir=directory.parent, prefix=".download_") as temporary:
        for name, url in urls.items():
            _fetch(url, name, Path(temporary), pauses_s)
        found = next(Path(temporary).rglob(_CONFIG), None)
        if found is None:
            raise RunError(f"the adapter that the service sent has no {_CONFIG}")
        _name_target_modules(found.parent)
        for file in found.parent.iterdir():
            shutil.move(file, directory / file.name)


def _name_target_modules(directory: Path) -> None:
    """Have the configuration name every module that the adapter has tensors for."""
    # A border: the service's files.
    try:
        config = json.loads((directory / _CONFIG).read_text("utf-8"))
        with safe_open(directory / _WEIGHTS, framework="np") as file:
            names = [name.removeprefix("base_model.model.") for name in file.keys()]  # noqa: SIM118
        modules = sorted({name.partition(".lora_")[0] for name in names if ".lora_" in name})
        if all(_is_named(module, config.get("target_modules")) for module in modules):
            return
    except (OSError, ValueError, AttributeError, re.error, SafetensorError) as error:
        raise RunError(
            f"the adapter that the service sent is damaged ({describe(error)})"
        ) from error
    config["target_modules"] = modules
    (directory / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _is_named(module: str, targets: Any) -> bool:
    """Whether PEFT adapts a module: `targets` is a regular expression, or a list of suffixes."""
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return any(f".{module}".endswith(f".{target}") for target in targets or ())


def _fetch(url: str, name: str, directory: Path, pauses_s: Sequence[float]) -> None:
    target = _safe_target(name or "adapter.tar", directory)
    # A border: the network and an archive of the service.
    try:
        _stream(url, target, pauses_s)
        if not name:
            _unpack(target, directory)
            target.unlink()
    except (httpx.HTTPError, tarfile.TarError) as error:
        # The URL may be signed, so it is not shown.
        kind = f"{error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
        reason = kind or describe(error).replace(url, "…")
        raise RunError(
            f"{target.relative_to(directory)} cannot be downloaded ({reason})"
        ) from error


def _safe_target(name: str, directory: Path) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise RunError(f"the service names a file of the adapter `{name}`, outside of it")
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _unpack(archive: Path, directory: Path) -> None:
    """Write the files of an archive; links are left out."""
    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.isfile() else None
            if content is not None:
                with _safe_target(member.name, directory).open("wb") as file:
                    shutil.copyfileobj(content, file)


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
