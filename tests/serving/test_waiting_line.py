"""The line alone: requests are answered together, a full line refuses, time runs out, one mistake is one answer."""

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from mcontriever.errors import DataError
from mcontriever.serving.asked import EmbedRequest, SearchRequest
from mcontriever.serving.limits import Limits
from mcontriever.serving.refusals import RefusedError
from mcontriever.serving.served import Answer, Embedded, Job, SearchAnswer
from mcontriever.serving.waiting_line import WaitingLine


class Worker:
    """Answers with the query; holds each batch until it may continue."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go_on = threading.Event()

    def __call__(self, jobs: Sequence[Job]) -> list[Answer | Exception]:
        self.batches.append([job.query if isinstance(job, SearchRequest) else "texts" for job in jobs])
        assert self.may_go_on.wait(30)
        return [self.answer(job) for job in jobs]

    def answer(self, job: Job) -> Answer | Exception:
        if isinstance(job, EmbedRequest):
            return Embedded("m", np.zeros((len(job.texts), 2)), 0)
        return DataError("bad", fix="better") if job.query == "bad" else SearchAnswer(job.query, [])


def line_of(worker: Worker, **limits: float) -> WaitingLine:
    return WaitingLine(worker, Limits(**limits), lambda requests, seconds: None)


async def started(worker: Worker) -> None:
    while not worker.batches:
        await asyncio.sleep(0.001)


def ask(line: WaitingLine, query: str) -> "asyncio.Task[Answer]":
    return asyncio.create_task(line.ask(SearchRequest(query=query)))


def test_those_who_wait_are_answered_together_each_with_its_own() -> None:
    worker = Worker()

    async def run() -> list[Answer | BaseException]:
        line = line_of(worker, together=4)
        asked = [ask(line, "first")]
        await started(worker)
        asked += [ask(line, name) for name in ("a", "bad", "c", "d", "e")]
        await asyncio.sleep(0)
        big = asyncio.create_task(line.ask(EmbedRequest(texts=("x",) * 9)))
        await asyncio.sleep(0)
        assert len(line) == 6
        worker.may_go_on.set()
        return [*await asyncio.gather(*asked, return_exceptions=True), await big]

    *answers, embedded = asyncio.run(run())
    assert worker.batches == [["first"], ["a", "bad", "c", "d"], ["e"], ["texts"]]
    refused = answers.pop(2)
    assert isinstance(refused, RefusedError)
    assert (refused.status, refused.message, refused.fix) == (400, "bad", "better")
    assert [answer.store for answer in answers] == ["first", "a", "c", "d", "e"]
    assert embedded.vectors_NH.shape == (9, 2)


def test_a_full_line_refuses_and_says_when_to_come_again() -> None:
    worker = Worker()

    async def run() -> None:
        line = line_of(worker, waiting=2)
        asked = [ask(line, "first")]
        await started(worker)
        asked += [ask(line, "a"), ask(line, "b")]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="2 requests are waiting already") as caught:
            await line.ask(SearchRequest(query="c"))
        assert caught.value.status == 429
        assert int(caught.value.response().headers["Retry-After"]) >= 1
        worker.may_go_on.set()
        await asyncio.gather(*asked)

    asyncio.run(run())


def test_time_runs_out_and_the_line_continues() -> None:
    worker = Worker()

    async def run() -> None:
        line = line_of(worker, answer_seconds=0.05)
        late = [ask(line, "late")]
        await started(worker)
        late.append(ask(line, "gone before its turn"))
        for task in late:
            with pytest.raises(RefusedError, match=r"no answer within 0\.05 s") as caught:
                await task
            assert caught.value.status == 504
        worker.may_go_on.set()
        assert await ask(line, "next") == SearchAnswer("next", [])

    asyncio.run(run())
    assert worker.batches == [["late"], ["next"]]


def test_a_failure_of_the_worker_is_reported_without_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    def broken(jobs: Sequence[Job]) -> list[Answer | Exception]:
        raise ZeroDivisionError("secret")

    async def run() -> None:
        line = WaitingLine(broken, Limits(), lambda requests, seconds: None)
        for _ in range(2):
            with pytest.raises(RefusedError, match="the server failed at this request") as caught:
                await line.ask(SearchRequest(query="x"))
            assert caught.value.status == 500
            assert b"secret" not in caught.value.body()

    asyncio.run(run())


def test_clients_that_come_back_one_by_one_are_answered_together_again() -> None:
    batches: list[int] = []

    def answer_all(jobs: Sequence[Job]) -> list[Answer | Exception]:
        batches.append(len(jobs))
        time.sleep(0.5)
        return [SearchAnswer("", []) for _ in jobs]

    async def client(line: WaitingLine, number: int) -> None:
        for _ in range(3):
            await line.ask(SearchRequest(query="x"))
            await asyncio.sleep(0.001 * number)  # the way back takes each its own time

    async def run() -> None:
        line = WaitingLine(answer_all, Limits(), lambda requests, seconds: None)
        await asyncio.gather(*(client(line, number) for number in range(8)))

    asyncio.run(run())
    assert sum(batches) == 24
    assert len(batches) <= 4  # without the wait, each round takes two
