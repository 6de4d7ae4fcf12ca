"""The sampler: PyTorch, in the training process."""

import logging
from collections.abc import Sequence

import torch

from retrain_backends.errors import RunError
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.declaration import SAMPLER
from retrain_backends.local.decode import sample_groups
from retrain_backends.local.decoding import DEFAULT, Decoding
from retrain_backends.local.devices import facts_about
from retrain_backends.local.sizes import context_of
from retrain_backends.local.trainer import is_out_of_memory
from retrain_backends.types import Facts, Request, SampledGroups, SamplingParams, Usage

log = logging.getLogger(__name__)


class PytorchSampler:
    """Samples from a base model with an adapter.

    Args:
      base: the model, with `adapter` attached.
      adapter: the adapter to sample from. In split mode a copy of `trained` on another device,
        updated by each call of `sample`.
      trained: the trainer's adapter.
      completions_at_once: the maximum number of completions in a batch.
      share_prompts: whether a prompt is prefilled once for its group.
      decoding: how attention is computed and its keys and values are stored.
    """

    capabilities = SAMPLER

    def __init__(
        self,
        base: BaseModel,
        adapter: Adapter,
        trained: Adapter,
        completions_at_once: int,
        *,
        share_prompts: bool = True,
        decoding: Decoding = DEFAULT,
    ) -> None:
        self.base = base
        self.adapter = adapter
        self._trained = trained
        self._at_once = completions_at_once
        self._share_prompts = share_prompts
        self._decoding = decoding
        self._context = context_of(base.model.config)
        self._vocabulary = base.model.get_input_embeddings().weight.shape[0]

    @property
    def facts(self) -> Facts:
        """PyTorch on the device of the model, and its determinism."""
        return facts_about(self.base.device)

    def sample(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        """Sample groups; out of memory, fewer prompts at a time, with the same result.

        Raises:
          RunError: a prompt is too long, or is not made of the model's tokens.
        """
        for request in requests:
            self._refuse_unfit(request)
        if self.adapter is not self._trained:
            self.adapter.copy_from(self._trained)
        return self._groups(requests, params)

    def _refuse_unfit(self, request: Request) -> None:
        prompt_T, model = request.prompt_T, self.base.name
        place = f"step {request.key.step}: prompt {request.key.prompt}"
        if int(prompt_T.max()) >= self._vocabulary:
            raise RunError(
                f"{place} has the token {int(prompt_T.max())}, and the vocabulary of `{model}` has"
                f" {self._vocabulary}: its tokenizer belongs to another model"
            )
        if self._context is not None and len(prompt_T) + request.max_tokens > self._context.tokens:
            raise RunError(
                f"{place} has {len(prompt_T)} tokens, which with training.max_tokens ="
                f" {request.max_tokens} is beyond the context of `{model}`, {self._context}:"
                " lower training.max_tokens, or leave the question out"
            )

    def _groups(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        left = list(range(len(requests)))
        with self.base.merged():
            while left:
                chunk = self._next_chunk(left, requests)
                try:
                    for position, group in sample_groups(
                        self.base,
                        [requests[index] for index in chunk],
                        params,
                        share_prompts=self._share_prompts,
                        decoding=self._decoding,
                    ):
                        left.remove(chunk[position])
                        yield chunk[position], group
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    self._shrink_chunks(chunk, requests)

    def _next_chunk(self, left: Sequence[int], requests: Sequence[Request]) -> list[int]:
        """The next requests to sample together: as many as are allowed, and at least one."""
        chunk: list[int] = []
        completions = 0
        for index in left:
            completions += len(requests[index].samples)
            if chunk and completions > self._at_once:
                break
            chunk.append(index)
        return chunk

    def _shrink_chunks(self, chunk: Sequence[int], requests: Sequence[Request]) -> None:
        if len(chunk) == 1:
            raise RunError(
                f"step {requests[0].key.step}: out of memory sampling a single group: lower"
                " training.group_size or training.max_tokens"
            )
        self._at_once = sum(len(requests[index].samples) for index in chunk[: len(chunk) // 2])
        log.warning("out of memory: sampling %d prompts at a time", len(chunk) // 2)
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()

    def usage(self) -> Usage:
        """Nothing besides what every step measures."""
        return Usage()

    def close(self) -> None:
        """Detach the adapter; memory is freed with the objects."""
        self.base.attach(None)
