"""A Tinker service through its official SDK, and everything that depends on the SDK's version.

The SDK itself retries single calls (busy, unreachable, 5xx) for minutes. Here every wait gets a
time limit, an answer that cannot be read is asked for again, and every error becomes one line that
names the endpoint.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from json import JSONDecodeError
from logging import ERROR, getLogger
from typing import Any, Self, TypeAlias

import tinker

from retrain_backends.errors import ConfigError, ModelError, RetrainError, RunError, describe
from retrain_backends.tinker.address import Address, find_address
from retrain_backends.tinker.datums import completion_logprobs, datums_to_score, split_by_tokens
from retrain_backends.tinker.options import TinkerOptions
from retrain_backends.types import Floats, Tokens
from retrain_backends.waiting import CHECK_S, RESUME_HINT, Waiting, in_thread

TrainingClient: TypeAlias = tinker.TrainingClient
SamplingClient: TypeAlias = tinker.SamplingClient

log = getLogger(__name__)

_CLOSE_S = 5.0  # time limit of ending the session
# From 0.38 on, a client without a session serves what is not training.
_HAS_REST_CLIENT = hasattr(tinker, "RestClient") and (
    "api_key" in inspect.signature(tinker.RestClient).parameters
)
_SPEAKS_OLDER = "only supports as proto"  # the error of SDKs from 0.25 on about an older server
_BROKEN_PROTO = "Proto deserialization failed"  # their error about a message that is damaged


class UnreadableError(RunError):
    """A call was answered, but what came is damaged, so that its result is not known."""


class Service:
    """A connection to a service; made with `connect`.

    Args:
      address: of the service.
      options: of the backend.
      check_s: how long a result may take before the service is asked whether it is still there.

    Attributes:
      waiting: for the results of calls.
    """

    def __init__(self, address: Address, options: TinkerOptions, check_s: float = CHECK_S) -> None:
        self._address = address
        self._options = options
        self._client = tinker.ServiceClient(base_url=address.url, api_key=address.key)
        ask = self._ask_capabilities
        self.waiting = Waiting(
            address.endpoint, ask, options.timeout_s, "backend.options.timeout_s", check_s
        )

    @property
    def endpoint(self) -> str:
        """Its address, for messages."""
        return self._address.endpoint

    @property
    def is_own(self) -> bool:
        """Whether it is a server with an address of its own, not the public service."""
        return self._address.url is not None

    @classmethod
    def connect(cls, base_url: str, options: TinkerOptions) -> Self:
        """Connect to the address, else to that of the environment, else to Tinker's own.

        Raises:
          ConfigError: there is no key, or the service refuses it; or a wrong address.
          RunError: nothing answers at the address.
        """
        address = find_address(base_url)
        # It logs every poll of a request that has not finished.
        getLogger("tinker.lib.api_future_impl").setLevel(ERROR)
        address.refuse_unreachable()
        with _as_one_line(address.endpoint, "connecting"):
            service = cls(address, options)
            service.models()
        return service

    def models(self) -> list[str]:
        """The names of the models that the service can train."""
        found = self._call(self._ask_capabilities, "asking for its models", "")
        return sorted(model.model_name for model in found.supported_models if model.model_name)

    def new_trainer(self, model: str, rank: int, seed: int) -> TrainingClient:
        """A new adapter on a model.

        Raises:
          ModelError: the service has no such model.
        """
        # Checked first, because SkyRL accepts any name and trains the model that it has.
        known = self.models()
        if known and model not in known:
            raise ModelError(
                f"model.model: {self.endpoint} cannot train `{model}`; it has"
                f" {', '.join(f'`{name}`' for name in known)}"
            )
        options = self._options
        create = partial(
            self._client.create_lora_training_client,
            base_model=model,
            rank=rank,
            seed=seed,
            train_mlp=options.train_mlp,
            train_attn=options.train_attn,
            train_unembed=options.train_unembed,
        )
        return self._call(create, f"creating an adapter on {model}", "")

    def saved_trainer(self, path: str, *, with_optimizer: bool) -> TrainingClient:
        """A trainer with the weights of `path`, and with its optimiser or a new one."""
        client = self._client
        create = (
            client.create_training_client_from_state_with_optimizer
            if with_optimizer
            else client.create_training_client_from_state
        )
        return self._call(partial(create, path), f"restoring {path}", "")

    def wait(
        self,
        future: Any,
        doing: str,
        again: Callable[[], Any] | None = None,
        hint: str = RESUME_HINT,
    ) -> Any:
        """The result of a call.

        Args:
          future: of the SDK.
          doing: names the call in messages.
          again: makes the call once more, if its answer cannot be read; None if it must not be
            made twice.
          hint: how to continue, for messages.

        Raises:
          UnreadableError: the call was answered, with something that cannot be read.
          RunError: the call failed, or took too long.
        """
        try:
            with _as_one_line(self.endpoint, doing, hint):
                pending = plain_future(future)
                self.waiting.until(lambda most_s: wait([pending], most_s).done, doing)
                return pending.result()
        except UnreadableError as error:
            if again is None:
                raise
            log.warning("%s; it is asked for again", error)
            return self.wait(again(), doing, hint=hint)

    def new_sampler(self, trainer: TrainingClient) -> SamplingClient:
        """A sampler with the trainer's current weights."""
        return self._call(
            trainer.save_weights_and_get_sampling_client, "making the new weights ready to sample"
        )

    def score(
        self, trainer: TrainingClient, prompts: Sequence[Tokens], completions: Sequence[Tokens]
    ) -> list[Floats]:
        """Log-probs of completions at temperature 1, nats; each follows its prompt."""
        doing = "scoring"
        datums = datums_to_score(prompts, completions)
        calls = [
            partial(trainer.forward, part, "cross_entropy")
            for part in split_by_tokens(datums, self._options.step_tokens)
        ]
        submitted = [(call(), call) for call in calls]
        outputs = [
            output
            for future, call in submitted
            for output in self.wait(future, doing, call).loss_fn_outputs
        ]
        return self.logprobs(outputs, [len(tokens_T) for tokens_T in completions], doing)

    def logprobs(
        self, outputs: Sequence[Mapping[str, Any]], lengths: Sequence[int], doing: str
    ) -> list[Floats]:
        """The log-probs of completions of these lengths in the service's outputs.

        Raises:
          RunError: the number of outputs or log-probs is wrong.
        """
        with _as_one_line(self.endpoint, doing, RESUME_HINT):
            return completion_logprobs(outputs, lengths)

    def adapter_urls(
        self, trainer: TrainingClient, name: Callable[[], str], path: str
    ) -> Mapping[str, str]:
        """The URLs of an adapter's files, by name; "" is an archive of all files.

        Args:
          trainer: of the adapter.
          name: new names to save it under, if the service needs it saved once more.
          path: its `tinker://` path.
        """
        rest, doing = self._rest_client(), "preparing the adapter for download"
        if hasattr(rest, "get_checkpoint_archive_url"):  # until 0.36
            # Not by the whole path: the SDK requires `sampler_weights/`, which SkyRL's lacks.
            run, _, checkpoint = path.removeprefix("tinker://").partition("/")
            archive = partial(rest.get_checkpoint_archive_url, run, checkpoint)
            return {"": self._call(archive, doing).url}
        saved = self._call(lambda: trainer.save_weights_external(name()), doing)
        return self._call(partial(rest.get_external_weights_urls, saved.path), doing).urls

    def close(self) -> None:
        """End the session, if the SDK supports it (newer ones do)."""
        if hasattr(self._client, "close"):
            # A border: the run has ended, and its results are on the disk.
            with suppress(Exception):
                self._client.close("success").result(_CLOSE_S)

    def _call(self, call: Callable[[], Any], doing: str, hint: str = RESUME_HINT) -> Any:
        """The result of a call that may be made twice."""
        again = partial(in_thread, call)
        return self.wait(again(), doing, again, hint)

    def _ask_capabilities(self) -> Any:
        client = self._rest_client() if _HAS_REST_CLIENT else self._client
        return client.get_server_capabilities()

    def _rest_client(self) -> Any:
        if _HAS_REST_CLIENT:
            return tinker.RestClient(base_url=self._address.url, api_key=self._address.key)
        return self._client.create_rest_client()


@contextmanager
def _as_one_line(endpoint: str, doing: str, hint: str = "") -> Iterator[None]:
    """A border: the SDK and the network. Errors become one line."""
    try:
        yield
    except RetrainError:
        raise
    except Exception as error:
        raise as_retrain_error(error, f"{endpoint}: {doing}", hint) from error


def as_retrain_error(error: Exception, where: str, hint: str = "") -> RetrainError:
    """An error of the SDK as one line.

    Args:
      error: of the SDK.
      where: the endpoint and the call.
      hint: the fix, unless the line has one.

    Returns:
      A ConfigError if every call to this service would fail, an UnreadableError if the answer is
      damaged, else a RunError.
    """
    match error:
        case tinker.AuthenticationError() | tinker.PermissionDeniedError():
            return ConfigError(
                f"{where}: the key is refused ({error.status_code}); set TINKER_API_KEY to one that"
                " the service accepts"
            )
        case tinker.NotFoundError():
            line = (
                "not found (404): the session is lost, or the server"
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
                " install the version that its documentation names (tinker==0.24.1 for SkyRL 0.3.0)"
            )
        case _ if _is_unreadable(error):
            return UnreadableError(f"{where}: the answer cannot be read ({type(error).__name__})")
        case _:
            line = describe(error)
    return RunError("; ".join(filter(None, (f"{where}: {' '.join(line.split())[:400]}", hint))))


def _is_unreadable(error: Exception) -> bool:
    """Whether the service has answered with success, and with a damaged body."""
    kinds = (tinker.APIResponseValidationError, JSONDecodeError, UnicodeDecodeError)
    return isinstance(error, kinds) or _BROKEN_PROTO in str(error)


def plain_future(answer: Any) -> Future[Any]:
    """The future of `concurrent.futures`, which newer SDKs wrap."""
    return answer.future() if hasattr(answer, "future") else answer
