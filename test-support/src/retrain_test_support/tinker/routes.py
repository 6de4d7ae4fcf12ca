"""The Tinker API's paths and what the test server answers to each."""

import itertools
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from retrain_test_support.tinker.api import (
    ApiError,
    ApiRequest,
    ApiResponse,
    Handler,
    Route,
    json_response,
    route,
)
from retrain_test_support.tinker.failures import RequestKind
from retrain_test_support.tinker.futures import ServerFuture
from retrain_test_support.tinker.models import Model, SamplingSession, ServerContext
from retrain_test_support.tinker.rest import Rest
from retrain_test_support.tinker.sampling import Sampling
from retrain_test_support.tinker.training import Training
from retrain_test_support.tinker.wire import (
    TrainRequest,
    read_train_request,
    train_request_from_json,
)

_PROTOBUF = "application/x-protobuf"


class Routes:
    """Every path of the API that the server knows."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._state = context.state
        self._training = Training(context)
        self._sampling = Sampling(context)
        self._numbers = itertools.count()
        session, create, train = RequestKind.SESSION, RequestKind.CREATE, RequestKind.TRAIN
        self._routes = [
            route("POST client/config", session, self._config),
            route("POST client/dynamic_config", session, _nothing),
            route("POST telemetry", session, lambda _: json_response({"status": "accepted"})),
            route("POST create_session", session, self._create_session),
            route("POST session_heartbeat", session, self._heartbeat),
            route("POST sessions/([^/]+)/finish", session, _nothing),
            route("GET healthz", session, lambda _: json_response({"status": "ok"})),
            route("GET get_server_capabilities", session, self._capabilities),
            route("POST get_info", session, self._get_info),
            route("GET samplers/([^/]+)", session, self._get_sampler),
            route("POST create_model", create, self._create_model),
            route("POST load_weights", create, self._load_weights),
            route("POST create_sampling_session", create, self._create_sampler),
            route("POST forward_backward", train, self._forward_backward),
            route("POST forward", train, self._forward),
            route("POST optim_step", RequestKind.STEP, self._optim_step),
            route("POST save_weights", train, self._saving("weights")),
            route("POST save_weights_for_sampler", train, self._saving("sampler_weights")),
            route("POST save_weights_external", train, self._saving("external_weights")),
            route("POST asample", RequestKind.SAMPLE, self._sample),
            route("POST cancel_future", RequestKind.RETRIEVE, _nothing),
            route("POST retrieve_future", RequestKind.RETRIEVE, self._retrieve),
            route("POST retrieve_futures", RequestKind.RETRIEVE, self._retrieve_many),
            *Rest(context).routes(),
        ]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """The route of a request and the variable parts of its path.

        Raises:
          ApiError: there is none.
        """
        for each in self._routes:
            match = each.pattern.fullmatch(f"{method} {unquote(path)}")
            if match:
                return each, match.groups()
        raise ApiError(404, f"no such path: {method} {path}")

    def _config(self, _request: ApiRequest) -> ApiResponse:
        flags = {"sample_use_retrieve_futures": self._context.behaviour.batched_futures}
        return json_response(flags)

    def _create_session(self, request: ApiRequest) -> ApiResponse:
        session_id = f"session-{next(self._numbers)}"
        self._state.sessions[session_id] = request.json()
        self._context.log.note("create_session")
        return json_response({"session_id": session_id})

    def _heartbeat(self, request: ApiRequest) -> ApiResponse:
        self._session(request.json())
        return json_response({})

    def _capabilities(self, _request: ApiRequest) -> ApiResponse:
        length = self._context.behaviour.context_length
        models = [{"model_name": name, "max_context_length": length} for name in self._state.names]
        return json_response({"supported_models": models})

    def _get_info(self, request: ApiRequest) -> ApiResponse:
        model = self._model(request.json()["model_id"])
        name = model.base_model
        data = {"arch": "bigram", "model_name": name, "tokenizer_id": name}
        return json_response(
            {
                "model_id": model.model_id,
                "model_data": data,
                "model_name": name,
                "is_lora": True,
                "lora_rank": model.rank,
            }
        )

    def _get_sampler(self, request: ApiRequest) -> ApiResponse:
        sampler = self._sampler(request.groups[0])
        return json_response(
            {
                "sampler_id": sampler.sampler_id,
                "base_model": sampler.base_model,
                "model_path": sampler.model_path,
            }
        )

    def _create_model(self, request: ApiRequest) -> ApiResponse:
        body = request.json()
        model_id = self._model_id(body)
        self._base_model(body["base_model"])
        return _future_response(
            self._training.create(model_id, body["base_model"], body.get("lora_config") or {})
        )

    def _load_weights(self, request: ApiRequest) -> ApiResponse:
        body = request.json()
        if body.get("session_id") is None:
            return _future_response(self._training.load(self._model(body["model_id"]), body))
        return _future_response(self._training.create_by_loading(self._model_id(body), body))

    def _create_sampler(self, request: ApiRequest) -> ApiResponse:
        body = request.json()
        self._session(body)
        sampler_id = f"{body['session_id']}:sample:{body['sampling_session_seq_id']}"
        path = body.get("model_path")
        if path is None:
            sampler = SamplingSession(sampler_id, self._base_model(body["base_model"]), None)
        else:
            saved = self._state.saved.get(path)
            if saved is None:
                raise ApiError(404, f"checkpoint {path} not found")
            sampler = SamplingSession(sampler_id, saved.base_model, saved.adapter, path)
        self._state.samplers[sampler_id] = sampler
        return json_response({"sampling_session_id": sampler_id})

    def _forward_backward(self, request: ApiRequest) -> ApiResponse:
        return self._train(_train_request(request, "forward_backward_input", forward_only=False))

    def _forward(self, request: ApiRequest) -> ApiResponse:
        return self._train(_train_request(request, "forward_input", forward_only=True))

    def _train(self, request: TrainRequest) -> ApiResponse:
        model = self._model(request.model_id)
        return _future_response(self._training.forward_backward(model, request))

    def _optim_step(self, request: ApiRequest) -> ApiResponse:
        body = request.json()
        return _future_response(self._training.optim_step(self._model(body["model_id"]), body))

    def _saving(self, folder: str) -> Handler:
        def save(request: ApiRequest) -> ApiResponse:
            body = request.json()
            return _future_response(
                self._training.save(self._model(body["model_id"]), body, folder)
            )

        return save

    def _sample(self, request: ApiRequest) -> ApiResponse:
        body = request.json()
        future = self._sampling.sample(self._sampler(body["sampling_session_id"]), body)
        names = [f"{future.request_id}-{index}" for index in range(body.get("num_samples", 1))]
        return json_response({"request_id": future.request_id, "sample_sequence_ids": names})

    def _retrieve(self, request: ApiRequest) -> ApiResponse:
        request_id = request.json()["request_id"]
        future = self._state.futures.find(request_id)
        if future is None:
            raise ApiError(410, f"request {request_id} is gone")
        try_again = {"type": "try_again", "request_id": request_id}
        if self._context.failures.is_due("paused_polls"):
            return json_response({**try_again, "queue_state": "paused_capacity"})
        outcome = future.wait(self._context.behaviour.poll_s)
        if outcome is None:
            return json_response({**try_again, "queue_state": "active"})
        if outcome.json is not None:
            return json_response(outcome.json)
        return ApiResponse(outcome.message, _PROTOBUF)

    def _retrieve_many(self, request: ApiRequest) -> ApiResponse:
        body = request.json()
        target = body["target"]
        self._sampler(target["sampling_session_id"])
        wait_s = self._context.behaviour.poll_s if body.get("timeout") is None else body["timeout"]
        return json_response(
            self._sampling.finished(
                target["sampling_session_id"],
                target.get("cloned_sampler_id", 0),
                body.get("prev_cursor", 0),
                wait_s,
            )
        )

    def _session(self, body: Mapping[str, Any]) -> None:
        if body["session_id"] not in self._state.sessions:
            raise ApiError(404, f"session {body['session_id']} not found")

    def _model_id(self, body: Mapping[str, Any]) -> str:
        self._session(body)
        return f"{body['session_id']}:train:{body['model_seq_id']}"

    def _base_model(self, name: str) -> str:
        if name not in self._state.names:
            names = ", ".join(self._state.names)
            raise ApiError(400, f"base_model `{name}` is not served here: {names}")
        return name

    def _model(self, model_id: str) -> Model:
        if model_id not in self._state.models:
            raise ApiError(404, f"model {model_id} not found")
        return self._state.models[model_id]

    def _sampler(self, sampler_id: str) -> SamplingSession:
        if sampler_id not in self._state.samplers:
            raise ApiError(404, f"sampling session {sampler_id} not found")
        return self._state.samplers[sampler_id]


def _train_request(request: ApiRequest, inputs: str, forward_only: bool) -> TrainRequest:
    # A border: the batch may hold pictures or sparse tensors.
    try:
        if request.content_type == _PROTOBUF:
            return read_train_request(request.body)
        return train_request_from_json(request.json(), inputs, forward_only)
    except ValueError as error:
        raise ApiError(400, str(error)) from error


def _nothing(_request: ApiRequest) -> ApiResponse:
    return json_response({})


def _future_response(future: ServerFuture) -> ApiResponse:
    return json_response({"request_id": future.request_id})
