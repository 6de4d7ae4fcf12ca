"""vLLM in the training process: samples from adapters that it reads by path."""

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, Self, TypeVar

import torch
import vllm  # pyright: ignore[reportMissingImports]
from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]
from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]
from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore[reportMissingImports]

from retrain_backends.config import PolicySettings
from retrain_backends.engines.dialect import completion_of
from retrain_backends.engines.logprob_kind import LogprobKind
from retrain_backends.engines.vllm import batch_invariance, check_release
from retrain_backends.errors import RunError, describe
from retrain_backends.local.devices import is_gpu, parse_devices
from retrain_backends.local.vllm_plan import VllmPlan, plan_of
from retrain_backends.randomness import service_seed
from retrain_backends.types import Completion, Request, SampledGroups, SamplingParams
from retrain_backends.waiting import RESUME_HINT, in_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHECK_S = 1.0  # between two looks at whether the engine lives
_NAME = "vLLM in this process"


class VllmEngine:
    """vLLM, whose engine is a child of this process, on the device that samples.

    Args:
      plan: how it is started, and whether it sleeps while the trainer trains.

    Raises:
      ConfigError: vLLM is too old.
      RunError: it cannot be started with this model.
    """

    logprobs: LogprobKind = "tempered"

    def __init__(self, plan: VllmPlan) -> None:
        check_release(vllm.__version_tuple__)
        _prepare_environment()
        _release_cached_memory()
        log.info("%s", plan.text)
        self._sleeps = plan.sleeps
        self._asleep = False
        self._numbers = count(1)
        self._adapters: dict[str, LoRARequest] = {}
        self._finished: dict[str, Any] = {}
        # A border: what vLLM raises depends on the model, the device and the version.
        try:
            with _interrupts_held():
                self._engine = vllm.LLM(plan.model, **plan.arguments).llm_engine
        except Exception as error:
            raise RunError(
                f"{_NAME} cannot be started with `{plan.model}`: {describe(error)}"
            ) from error

    @classmethod
    def from_config(cls, settings: PolicySettings) -> Self:
        """Start vLLM for a policy."""
        sample_on, _ = parse_devices(settings.backend.devices)
        os.environ.update(batch_invariance(settings.inference, not is_gpu(sample_on)))
        return cls(plan_of(settings))

    def load(self, name: str, directory: str) -> None:
        """Load an adapter, under an id and a path that vLLM has not seen."""
        request = LoRARequest(name, next(self._numbers), directory)
        self._awake()
        # A border: what it raises depends on the adapter.
        try:
            self._ask(lambda: self._engine.add_lora(request))
        except RunError:
            raise
        except Exception as error:
            raise RunError(f"{_NAME} cannot load `{name}`: {describe(error)}") from error
        self._adapters[name] = request

    def unload(self, name: str) -> None:
        """Unload an adapter."""
        adapter = self._adapters.pop(name)
        self._ask(lambda: self._engine.remove_lora(adapter.lora_int_id))

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, adapter: str
    ) -> SampledGroups:
        """Sample from an adapter; the requests of the call are in the engine when it returns.

        Raises:
          RunError: a prompt is too long, or the engine has died.
        """
        self._awake()
        waiting: dict[str, int] = {}
        for index, request in enumerate(requests):
            name = str(next(self._numbers))
            # A border: vLLM checks the prompt, and each release has errors of its own for that.
            try:
                self._ask(partial(self._add, name, request, params, self._adapters[adapter]))
            except RunError:
                raise
            except Exception as error:
                self._abort(waiting)
                raise RunError(
                    f"{_NAME} refuses a prompt of {len(request.prompt_T)} tokens: {describe(error)}"
                ) from error
            waiting[name] = index
        return self._groups(waiting)

    def _add(
        self, name: str, request: Request, params: SamplingParams, adapter: LoRARequest
    ) -> None:
        prompt = {"prompt_token_ids": request.prompt_T.tolist()}
        chosen = _sampling(request, params)
        self._engine.add_request(name, prompt, chosen, lora_request=adapter)

    def sample_everywhere(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> Mapping[str, list[Completion]]:
        """All completions of a request."""
        [(_, group)] = self.sample([request], params, adapter)
        return {_NAME: group}

    def rest(self) -> None:
        """Give the memory of the GPU back, if the trainer needs it and nothing is sampled."""
        if self._sleeps and not self._asleep and not self._engine.has_unfinished_requests():
            self._ask(lambda: self._engine.sleep(level=1))  # keeps the weights, in main memory
            self._asleep = True

    def close(self, adapters: Iterable[str] = ()) -> None:  # noqa: ARG002
        """End the engine, and with it the adapters."""
        self._engine.engine_core.shutdown(timeout=0)

    def _awake(self) -> None:
        if self._asleep:
            _release_cached_memory()
            self._ask(self._engine.wake_up)
            self._asleep = False

    def _groups(self, waiting: dict[str, int]) -> SampledGroups:
        try:
            while waiting:
                done = [name for name in waiting if name in self._finished]
                for name in done:
                    yield waiting.pop(name), _group(self._finished.pop(name))
                if waiting and not done:
                    for output in self._ask(self._engine.step):
                        self._finished[output.request_id] = output
        finally:
            self._abort(waiting)

    def _abort(self, waiting: Iterable[str]) -> None:
        left = [name for name in waiting if self._finished.pop(name, None) is None]
        if left:
            self._ask(lambda: self._engine.abort_request(left))

    def _ask(self, call: Callable[[], T]) -> T:
        """The result of a call; vLLM itself would wait for ever for an engine that was killed."""
        answer = in_thread(call)
        try:
            while not wait([answer], _CHECK_S).done:
                self._engine.engine_core.ensure_alive()
            return answer.result()
        except EngineDeadError as error:
            raise RunError(
                f"{_NAME}: its engine has died; its own messages above say why, often a lack of"
                f" memory; {RESUME_HINT}"
            ) from error


def _prepare_environment() -> None:
    """The engine as a child process, and only errors of vLLM on the console unless asked for."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    level = os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # for its processes
    logging.getLogger("vllm").setLevel(level)


def _release_cached_memory() -> None:
    """Return to the GPU what the trainer's allocator holds without using it."""
    gc.collect()
    torch.cuda.empty_cache()


def _sampling(request: Request, params: SamplingParams) -> Any:
    return vllm.SamplingParams(
        n=len(request.samples),
        max_tokens=request.max_tokens,
        temperature=params.temperature,
        seed=service_seed(request.key.stream(request.samples[0])),
        stop_token_ids=list(params.stop_token_ids),
        ignore_eos=True,
        logprobs=0,  # of the sampled token alone
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _group(output: Any) -> list[Completion]:
    # A border: what the engine gives may be damaged.
    try:
        rows = sorted(output.outputs, key=lambda row: row.index)
        return [_completion(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{_NAME} returned what is no completion ({describe(error)})") from error


def _completion(row: Any) -> Completion:
    tokens = list(row.token_ids)
    pairs = zip(tokens, row.logprobs, strict=True)
    logprobs = [position[token].logprob for token, position in pairs]
    return completion_of(tokens, logprobs, row.finish_reason)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started here; this one gets it at the end.

    They would die of it, while the run still saves what it has trained.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
