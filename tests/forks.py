"""`pytest --forks N`: one process collects the tests, and N processes forked from it run them.

So what the tests import is imported once. A process takes one file at a time, those with a `long(SECONDS)` test
first, and runs its tests in their order. A process that dies fails its test; another one takes the rest of its files.
"""

import atexit
import gc
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from itertools import groupby
from multiprocessing import Pipe, connection
from typing import Any, NoReturn

import pytest

WARM = "tests.warm_processes"  # conftest.py imports it
Tests = list[int]  # numbers of items that one process runs in order


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=int, default=0, metavar="N", help="run the tests in N forked processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if not session.config.option.forks or session.config.option.collectonly or session.testsfailed:
        return None
    _Forks(session).run(session.config.option.forks)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
    return True


def files_of(items: list[pytest.Item]) -> list[Tests]:
    """The items of each file, those that take longest first."""
    files = [list(group) for _, group in groupby(range(len(items)), lambda number: _file(items[number]))]
    return sorted(files, key=lambda file: -max(_seconds(items[number]) for number in file))


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("long")
    return 0 if mark is None else float(mark.args[0])


class _Worker:
    """A forked process as the first one sees it."""

    def __init__(self, number: int, session: pytest.Session, others: list["_Worker"]) -> None:
        self.number = number
        self.given: Tests = []  # what it has not begun
        self.running: int | None = None
        self.pipe, theirs = Pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            for pipe in (self.pipe, *(other.pipe for other in others)):
                pipe.close()
            _run_in_child(number, session, theirs)
        theirs.close()


class _Forks:
    def __init__(self, session: pytest.Session) -> None:
        self.session = session
        self.config = session.config
        self.files = deque(files_of(session.items))
        self.workers: list[_Worker] = []
        self.started = 0

    def run(self, number: int) -> None:
        if WARM in sys.modules:
            import tests.warm_imports  # noqa: F401

        self.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        gc.freeze()  # collecting in a forked process would copy every page
        try:
            for _ in range(number):
                self._start()
            while self.workers and not self.session.shouldfail and not self.session.shouldstop:
                ready = connection.wait([worker.pipe for worker in self.workers])
                for worker in [worker for worker in self.workers if worker.pipe in ready]:
                    self._hear(worker)
        finally:
            for worker in self.workers:
                worker.pipe.close()
                os.kill(worker.pid, signal.SIGINT)
            for worker in self.workers:
                os.waitpid(worker.pid, 0)

    def _start(self) -> None:
        self.workers.append(_Worker(self.started, self.session, self.workers))
        self.started += 1

    def _hear(self, worker: _Worker) -> None:
        kind, data = _received(worker.pipe)
        if kind == "died":
            self._ended(worker)
        elif kind == "ask":
            file = self.files.popleft() if self.files else []
            worker.given += file
            worker.pipe.send(file)
        elif kind == "begin":
            worker.running = data
            worker.given.remove(data)
        elif kind == "end":
            worker.running = None
        else:
            self._report(self.config.hook.pytest_report_from_serializable(config=self.config, data=data))

    def _report(self, report: pytest.TestReport) -> None:
        self.config.hook.pytest_runtest_logreport(report=report)

    def _ended(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.pipe.close()
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        if worker.running is not None:
            item = self.session.items[worker.running]
            message = f"the process that ran this test ended with code {code}"
            self._report(pytest.TestReport(item.nodeid, item.location, {}, "failed", message, "call"))
        elif code or worker.given:
            raise RuntimeError(f"a process of the tests ended with code {code}, and no test was running")
        if worker.given:
            self.files.appendleft(worker.given)
            self._start()


def _received(pipe: connection.Connection) -> tuple[str, Any]:
    try:
        return pipe.recv()  # type: ignore[no-any-return]
    except EOFError:
        return "died", None


class _Reporter:
    """What a forked process tells of its tests."""

    def __init__(self, config: pytest.Config, pipe: connection.Connection) -> None:
        self.config = config
        self.pipe = pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.pipe.send(("report", self.config.hook.pytest_report_to_serializable(config=self.config, report=report)))


def _run_in_child(number: int, session: pytest.Session, pipe: connection.Connection) -> NoReturn:
    code = 1
    try:
        _settle(number, session.config, pipe)
        for now, after in _with_next(_asked_for(pipe)):
            pipe.send(("begin", now))
            item, following = session.items[now], None if after is None else session.items[after]
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            pipe.send(("end", now))
        code = 0
    except (KeyboardInterrupt, BrokenPipeError, EOFError):
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            session._setupstate.teardown_exact(None)
            threading._shutdown()  # type: ignore[attr-defined]  # which ends the pools of processes
            atexit._run_exitfuncs()
        except BaseException:
            traceback.print_exc()
            code = code or 1
        sys.stdout.flush()
        os._exit(code)


def _settle(number: int, config: Any, pipe: connection.Connection) -> None:
    """This process has its own temporary files and captured output, and ends nothing of the first one's."""
    atexit._clear()
    factory = config._tmp_path_factory
    factory._basetemp = factory.getbasetemp() / f"process-{number}"
    factory._basetemp.mkdir(mode=0o700)
    config.pluginmanager.unregister(name="terminalreporter")
    if (capture := config.pluginmanager.getplugin("capturemanager")._global_capturing) is not None:
        for stream in (capture.out, capture.err):  # which handlers of logs hold since the collection
            with tempfile.TemporaryFile() as own:
                os.dup2(own.fileno(), stream.tmpfile.fileno())
    if WARM in sys.modules:
        sys.modules[WARM].fork_the_server(pipe, factory._basetemp / "prints.txt")
    config.pluginmanager.register(_Reporter(config, pipe))


def _asked_for(pipe: connection.Connection) -> Iterator[int]:
    while True:
        pipe.send(("ask", None))
        file = pipe.recv()
        if not file:
            return
        yield from file


def _with_next(numbers: Iterator[int]) -> Iterator[tuple[int, int | None]]:
    now = next(numbers, None)
    while now is not None:
        after = next(numbers, None)
        yield now, after
        now = after
