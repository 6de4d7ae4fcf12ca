"""Verdicts that need not be asked for twice."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from hashlib import blake2b
from typing import Any

from retrain_backends.types import Verdict

_MOST = 100_000


class VerdictMemory:
    """Remembers the verdicts that depend on nothing but some texts, such as answer and reference.

    Only values are kept: that there was no verdict may be different the next time. The same texts
    are judged once at a time. All calls belong to one event loop.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Verdict] = OrderedDict()
        self._judging: dict[bytes, asyncio.Task[Verdict]] = {}

    async def recall(
        self, texts: Sequence[str], judge: Callable[[], Coroutine[Any, Any, Verdict]]
    ) -> Verdict:
        """The verdict on these texts: remembered, or from `judge()`."""
        key = _digest(texts)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        if key not in self._judging:
            task = asyncio.create_task(judge())
            task.add_done_callback(lambda task: self._remember(key, task))
            self._judging[key] = task
        return await asyncio.shield(self._judging[key])

    def _remember(self, key: bytes, task: asyncio.Task[Verdict]) -> None:
        del self._judging[key]
        if task.cancelled() or task.exception() or task.result().value is None:
            return
        self._known[key] = task.result()
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


def _digest(texts: Sequence[str]) -> bytes:
    """A short name for texts of any length."""
    digest = blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
