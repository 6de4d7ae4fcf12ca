"""A Tinker service through its official SDK, and all that this project knows of SDK versions.

The SDK retries single calls itself (busy, unreachable, 5xx), for minutes. Here every wait gets an
end, and whatever comes out of it becomes one line that names the endpoint.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from logging import ERROR, getLogger
from threading import Thread
from typing import Any, Self, TypeAlias

import tinker

from retrain_backends.errors import ConfigError, ModelError, RetrainError, RunError, describe
from retrain_backends.tinker.address import Address, find_address
from retrain_backends.tinker.datums import completion_logprobs, datums_to_score, parts
from retrain_backends.tinker.options import TinkerOptions
from retrain_backends.types import Floats, Tokens

TrainingClient: TypeAlias = tinker.TrainingClient
SamplingClient: TypeAlias = tinker.SamplingClient

_CLOSE_S = 5.0  # longest that saying goodbye may take
GO_ON = "`retrain --resume` goes on from the last checkpoint"
# From 0.38 on there is a client without a session for what is not training.
_HAS_REST_CLIENT = hasattr(tinker, "RestClient") and (
    "api_key" in inspect.signature(tinker.RestClient).parameters
)
_SPEAKS_OLDER = "only supports as proto"  # what SDKs from 0.25 on say of an older server


class Service:
    """A connection to a service; made with `connect`.

    Args:
      address: where it is.
      options: of the backend.
    """

    def __init__(self, address: Address, options: TinkerOptions) -> None:
        self._address = address
        self._options = options
        self._client = tinker.ServiceClient(base_url=address.url, api_key=address.key)

    @property
    def endpoint(self) -> str:
        """Its address, for messages."""
        return self._address.endpoint

    @classmethod
    def connect(cls, base_url: str, options: TinkerOptions) -> Self:
        """Connect to the address, or to the one that the environment names, or to Tinker's own.

        Raises:
          ConfigError: there is no key, or the service does not take it; or a wrong address.
          RunError: nothing answers at the address.
        """
        address = find_address(base_url)
        # It tells of every poll of a request that is not done yet.
        getLogger("tinker.lib.api_future_impl").setLevel(ERROR)
        address.refuse_unreachable()
        with _telling(address.endpoint, "connecting"):
            service = cls(address, options)
            service.models()
        return service

    def models(self) -> list[str]:
        """Names of the models that can be trained."""
        asked = self._rest_client() if _HAS_REST_CLIENT else self._client
        with _telling(self.endpoint, "asking for its models"):
            found = resolved(asked.get_server_capabilities, self._options.timeout_s)
        return sorted(model.model_name for model in found.supported_models if model.model_name)

    def new_trainer(self, model: str, rank: int, seed: int) -> TrainingClient:
        """A new adapter on a model.

        Raises:
          ModelError: the service has no such model.
        """
        # Looked up before, because SkyRL takes any name and trains the model that it has.
        known = self.models()
        if known and model not in known:
            raise ModelError(
                f"model.model: {self.endpoint} cannot train `{model}`; it has"
                f" {', '.join(f'`{name}`' for name in known)}"
            )
        options = self._options
        with _telling(self.endpoint, f"creating an adapter on {model}"):
            return resolved(
                lambda: self._client.create_lora_training_client(
                    base_model=model,
                    rank=rank,
                    seed=seed,
                    train_mlp=options.train_mlp,
                    train_attn=options.train_attn,
                    train_unembed=options.train_unembed,
                ),
                options.timeout_s,
            )

    def saved_trainer(self, path: str, *, with_optimizer: bool) -> TrainingClient:
        """A trainer with the weights that `path` names, and with its optimiser or a new one."""
        client = self._client
        create = (
            client.create_training_client_from_state_with_optimizer
            if with_optimizer
            else client.create_training_client_from_state
        )
        with _telling(self.endpoint, f"restoring {path}"):
            return resolved(lambda: create(path), self._options.timeout_s)

    def wait(self, future: Any, doing: str) -> Any:
        """The result of a call.

        Args:
          future: what the SDK answered.
          doing: what is waited for, for messages.

        Raises:
          RunError: the call failed, or took too long.
        """
        with _telling(self.endpoint, doing, GO_ON):
            return future.result(self._options.timeout_s)

    def new_sampler(self, trainer: TrainingClient) -> SamplingClient:
        """Samples with the trainer's weights as they are now."""
        with _telling(self.endpoint, "making the new weights ready to sample", GO_ON):
            return resolved(trainer.save_weights_and_get_sampling_client, self._options.timeout_s)

    def score(
        self, trainer: TrainingClient, prompts: Sequence[Tokens], completions: Sequence[Tokens]
    ) -> list[Floats]:
        """Log-probs of completions at temperature 1, nats; each follows its prompt."""
        doing = "scoring"
        datums = datums_to_score(prompts, completions)
        submitted = [
            trainer.forward(part, "cross_entropy")
            for part in parts(datums, self._options.step_tokens)
        ]
        outputs = [
            output for future in submitted for output in self.wait(future, doing).loss_fn_outputs
        ]
        return self.logprobs(outputs, [len(tokens_T) for tokens_T in completions], doing)

    def logprobs(
        self, outputs: Sequence[Mapping[str, Any]], lengths: Sequence[int], doing: str
    ) -> list[Floats]:
        """The log-probs of completions of these lengths, out of what the service sent for them.

        Raises:
          RunError: it sent another number of them.
        """
        with _telling(self.endpoint, doing, GO_ON):
            return completion_logprobs(outputs, lengths)

    def adapter_urls(self, trainer: TrainingClient, name: str, path: str) -> Mapping[str, str]:
        """Where the files of an adapter can be fetched, by name; "" is an archive of them all.

        Args:
          trainer: what trains it.
          name: to save it under, where the service wants it saved once more.
          path: its `tinker://` path.
        """
        rest, timeout_s = self._rest_client(), self._options.timeout_s
        with _telling(self.endpoint, "preparing the adapter for download", GO_ON):
            if hasattr(rest, "get_checkpoint_archive_url"):  # until 0.36
                # Not by the whole path: SkyRL's has no `sampler_weights/`, and the SDK insists.
                run, _, checkpoint = path.removeprefix("tinker://").partition("/")
                archive = rest.get_checkpoint_archive_url(run, checkpoint)
                return {"": archive.result(timeout_s).url}
            saved = trainer.save_weights_external(name).result(timeout_s)
            return rest.get_external_weights_urls(saved.path).result(timeout_s).urls

    def close(self) -> None:
        """End the session, where the SDK can (newer ones)."""
        if hasattr(self._client, "close"):
            # A border: the run is over, and what it came to is on the disk.
            with suppress(Exception):
                self._client.close("success").result(_CLOSE_S)

    def _rest_client(self) -> Any:
        if _HAS_REST_CLIENT:
            return tinker.RestClient(base_url=self._address.url, api_key=self._address.key)
        return self._client.create_rest_client()


def resolved(call: Callable[[], Any], timeout_s: float) -> Any:
    """What a call comes to: newer SDKs answer with a future where older ones wait themselves.

    Older ones would wait for ever. So this is done in a thread, which a call that does not come
    back keeps until the process ends.

    Raises:
      TimeoutError: there is no answer in time.
    """
    outcome: Future[Any] = Future()

    def work() -> None:
        # A border between threads: nothing may be lost on the way to the one that asks.
        try:
            answer = call()
            found = answer.result(timeout_s) if hasattr(answer, "result") else answer
        except BaseException as error:  # noqa: BLE001
            outcome.set_exception(error)
        else:
            outcome.set_result(found)

    Thread(target=work, name="tinker", daemon=True).start()
    return outcome.result(timeout_s)


def plain_future(answer: Any) -> Future[Any]:
    """The future of `concurrent.futures`; newer SDKs wrap it."""
    return answer.future() if hasattr(answer, "future") else answer


@contextmanager
def _telling(endpoint: str, doing: str, hint: str = "") -> Iterator[None]:
    """A border: somebody else's library and network. What fails becomes one line."""
    try:
        yield
    except RetrainError:
        raise
    except Exception as error:
        raise told(error, f"{endpoint}: {doing}", hint) from error


def told(error: Exception, where: str, hint: str = "") -> RetrainError:
    """What the SDK raises, as one line.

    Args:
      error: what it raised.
      where: the endpoint, and what was being done.
      hint: what to do about it, unless the line says that itself.

    Returns:
      A ConfigError for what every call to this service would meet, a RunError for all else.
    """
    match error:
        case tinker.AuthenticationError() | tinker.PermissionDeniedError():
            return ConfigError(
                f"{where}: the key is refused ({error.status_code}); set TINKER_API_KEY to one that"
                " the service takes"
            )
        case tinker.NotFoundError():
            line = (
                "it does not know what it was asked for (404): the session is lost, or the server"
                f" is older than tinker {tinker.__version__} expects"
            )
        case tinker.APIStatusError():
            line = f"it answered {error.status_code}, retries included: {error.message}"
        case TimeoutError():
            line = "no answer in time (backend.options.timeout_s)"
        case tinker.APIConnectionError():
            line = f"no connection, retries included ({error.message})"
        case ValueError() if _SPEAKS_OLDER in str(error):
            return ConfigError(
                f"{where}: the server speaks an older protocol than tinker {tinker.__version__};"
                " install the version that its makers name (tinker==0.24.1 for SkyRL 0.3.0)"
            )
        case _:
            line = describe(error)
    return RunError("; ".join(filter(None, (f"{where}: {' '.join(line.split())[:400]}", hint))))
