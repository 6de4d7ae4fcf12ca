"""The test server's side of the SDK's `RestClient`: checkpoints and their files."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from retrain_test_support.tinker.api import (
    ApiError,
    ApiRequest,
    ApiResponse,
    Route,
    json_response,
    route,
)
from retrain_test_support.tinker.failures import RequestKind
from retrain_test_support.tinker.files import adapter_files, archive
from retrain_test_support.tinker.models import SavedCheckpoint, ServerContext

_TYPES = {"weights": "training", "sampler_weights": "sampler", "external_weights": "external"}
_ARCHIVE = "checkpoint.tar"
_RUN = "training_runs/([^/]+)"
_CHECKPOINT = f"{_RUN}/checkpoints/(?:([^/]+)/)?([^/]+)"


class Rest:
    """Paths about checkpoints."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        # Files are fetched without a key, from URLs that cannot be guessed.
        self._secret = secrets.token_hex(8)

    def routes(self) -> list[Route]:
        """The routes of these paths."""
        rest = RequestKind.REST
        return [
            route(f"GET {_RUN}/checkpoints", rest, self._list),
            route(f"GET {_CHECKPOINT}/external_weights_urls", rest, self._file_urls),
            route(f"GET {_CHECKPOINT}/archive", rest, self._archive_url),
            route(f"DELETE {_CHECKPOINT}", rest, self._delete),
            route("POST weights_info", rest, self._weights_info),
            route(
                "GET files/([^/]+)/([^/]+)/([^/]+)/([^/]+)/([^/]+)", RequestKind.FILE, self._file
            ),
        ]

    def _list(self, request: ApiRequest) -> ApiResponse:
        run = request.groups[0]
        found = [each for path, each in self._saved().items() if path.split("/")[2] == run]
        return json_response({"checkpoints": [self._described(each) for each in found]})

    def _file_urls(self, request: ApiRequest) -> ApiResponse:
        saved = self._checkpoint(request.groups)
        urls = {name: self._url(request, saved, name) for name in self._files(saved)}
        return json_response({"urls": urls, "expires": _soon().isoformat()})

    def _archive_url(self, request: ApiRequest) -> ApiResponse:
        saved = self._checkpoint(request.groups)
        return ApiResponse(b"", location=self._url(request, saved, _ARCHIVE))

    def _delete(self, request: ApiRequest) -> ApiResponse:
        saved = self._checkpoint(request.groups)
        del self._context.state.saved[saved.path]
        self._context.log.note("delete", saved.path.split("/")[2], deleted=saved.path)
        return json_response({})

    def _weights_info(self, request: ApiRequest) -> ApiResponse:
        path = request.json()["tinker_path"]
        saved = self._saved().get(path)
        if saved is None:
            raise ApiError(404, f"checkpoint {path} not found")
        parts = {key: value for key, value in saved.lora.items() if key.startswith("train_")}
        answer = {"base_model": saved.base_model, "is_lora": True, "lora_rank": saved.lora["rank"]}
        return json_response({**answer, **parts})

    def _file(self, request: ApiRequest) -> ApiResponse:
        secret, *where, name = request.groups
        if secret != self._secret:
            raise ApiError(403, "this address is not signed")
        files = self._files(self._checkpoint(tuple(where)))
        self._context.log.note("download", where[0], file=name)
        content = archive(files) if name == _ARCHIVE else files[name]
        return ApiResponse(content, "application/octet-stream")

    def _url(self, request: ApiRequest, saved: SavedCheckpoint, name: str) -> str:
        where = saved.path.removeprefix("tinker://")
        return f"http://{request.host}/api/v1/files/{self._secret}/{where}/{name}"

    def _checkpoint(self, groups: tuple[str | None, ...]) -> SavedCheckpoint:
        run, folder, name = groups
        path = f"tinker://{run}/{folder or 'sampler_weights'}/{name}"
        saved = self._saved().get(path)
        if saved is None:
            raise ApiError(404, f"checkpoint {path} not found")
        return saved

    def _saved(self) -> dict[str, SavedCheckpoint]:
        return self._context.state.saved

    def _described(self, saved: SavedCheckpoint) -> dict[str, Any]:
        _, _, _, folder, name = saved.path.split("/")
        lives = None if saved.ttl_seconds is None else timedelta(seconds=saved.ttl_seconds)
        return {
            "checkpoint_id": f"{folder}/{name}",
            "checkpoint_type": _TYPES[folder],
            "time": saved.time.isoformat(),
            "tinker_path": saved.path,
            "size_bytes": sum(len(content) for content in self._files(saved).values()),
            "expires_at": None if lives is None else (saved.time + lives).isoformat(),
        }

    def _files(self, saved: SavedCheckpoint) -> dict[str, bytes]:
        return adapter_files(saved, self._context.behaviour.target_modules)


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=15)
