"""Where requests wait. All that wait when the processor becomes free are answered together.

One thread works, because cores are shared inside the searches. Clients that were answered together often ask again at
once, but not at the same moment: the next batch waits for as many as the last one had, for a tenth of its time at most.
A client that has gone, or whose time is up, is passed over.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from mcontriever.serving.limits import Limits
from mcontriever.serving.refusals import RefusedError, refusal_of
from mcontriever.serving.served import Answer, Job

AnswerAll = Callable[[Sequence[Job]], list[Answer | Exception]]
Waiting = tuple[Job, "asyncio.Future[Answer]"]
RECENT = 0.2  # the weight of the last batch in the average
PATIENCE, PATIENCE_SECONDS = 0.1, 0.1  # how long the next batch waits: this share of the last one's time, and at most
GLANCE_SECONDS = 0.002  # between two looks at how many wait


class WaitingLine:
    def __init__(self, answer_all: AnswerAll, limits: Limits, on_batch: Callable[[int, float], None]) -> None:
        self.limits = limits
        self._answer_all = answer_all
        self._on_batch = on_batch
        self._waiting: deque[Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._worker: asyncio.Task[None] | None = None
        self._seconds_each = 0.01

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, job: Job) -> Answer:
        """The answer, or a RefusedError: the line is full, or it took too long."""
        if len(self._waiting) >= self.limits.waiting:
            seconds = max(math.ceil(len(self._waiting) * self._seconds_each), 1)
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{len(self._waiting)} requests are waiting already",
                f"try again in {seconds} s",
                seconds,
            )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await asyncio.wait_for(future, self.limits.answer_seconds)
        except TimeoutError:
            raise RefusedError(
                HTTPStatus.GATEWAY_TIMEOUT,
                f"no answer within {self.limits.answer_seconds:g} s",
                "ask for less, or try again when the server is less busy",
                max(math.ceil(self.limits.answer_seconds), 1),
            ) from None

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        """Until no request waits."""
        try:
            while batch := self._next_batch():
                started = time.monotonic()
                answers = await self._answers([job for job, _ in batch])
                seconds = time.monotonic() - started
                self._seconds_each += RECENT * (seconds / len(batch) - self._seconds_each)
                self._on_batch(len(batch), seconds)
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(refusal_of(answer))
                    else:
                        future.set_result(answer)
                await self._wait_for(len(batch), min(PATIENCE * seconds, PATIENCE_SECONDS))
        finally:
            self._worker = None

    async def _wait_for(self, requests: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        while len(self._waiting) < requests and time.monotonic() < until:
            await asyncio.sleep(GLANCE_SECONDS)

    async def _answers(self, jobs: Sequence[Job]) -> Sequence[Answer | Exception]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer_all, jobs)
        except Exception as error:
            return [error] * len(jobs)

    def _next_batch(self) -> list[Waiting]:
        """As many as hold `together` texts, and at least one."""
        batch: list[Waiting] = []
        texts = 0
        while self._waiting and (not batch or texts + self._waiting[0][0].size <= self.limits.together):
            job, future = self._waiting.popleft()
            if not future.done():
                batch.append((job, future))
                texts += job.size
        return batch
