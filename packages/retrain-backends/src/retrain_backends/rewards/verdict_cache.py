"""A cache of verdicts."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from hashlib import blake2b
from typing import Any

from retrain_backends.types import Verdict

_MAX_ENTRIES = 100_000


class VerdictCache:
    """Caches verdicts that depend on some texts only, such as answer and reference.

    Only values are cached: "no verdict" may be different the next time. Concurrent calls with the
    same texts share one judgement. All calls belong to one event loop.
    """

    def __init__(self) -> None:
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self._judging: dict[bytes, asyncio.Task[Verdict]] = {}

    async def get_or_judge(
        self, texts: Sequence[str], judge: Callable[[], Coroutine[Any, Any, Verdict]]
    ) -> Verdict:
        """The verdict on these texts: cached, or from `judge()`."""
        key = _digest(texts)
        if key in self._verdicts:
            self._verdicts.move_to_end(key)
            return self._verdicts[key]
        if key not in self._judging:
            task = asyncio.create_task(judge())
            task.add_done_callback(lambda task: self._store(key, task))
            self._judging[key] = task
        return await asyncio.shield(self._judging[key])

    def _store(self, key: bytes, task: asyncio.Task[Verdict]) -> None:
        del self._judging[key]
        if task.cancelled() or task.exception() or task.result().value is None:
            return
        self._verdicts[key] = task.result()
        if len(self._verdicts) > _MAX_ENTRIES:
            self._verdicts.popitem(last=False)


def _digest(texts: Sequence[str]) -> bytes:
    """A short key for texts of any length."""
    digest = blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
