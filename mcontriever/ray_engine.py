"""Ray as the engine of `prepare` and `embed`: one task for each shard, on any machine of a cluster.

    mcontriever embed CORPUS --output STORE --engine ray                the cluster of this machine, or one started here
    mcontriever embed CORPUS --output STORE --engine ray://HOST:6379    the cluster whose head has this address

The command runs on a machine of the cluster, plans and completes the work; tasks do what a process of the local engine
does, and communicate through the shared folder alone. Needs mcontriever[ray].
"""

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import mcontriever
from mcontriever.errors import ConfigError, HubError, RunError, UserError
from mcontriever.hosts import require_host
from mcontriever.progress import log

LOCAL = "local"
TICK_SECONDS = 1.0
RETRIES = 5  # of a task whose worker or machine was lost
WAITING_TASKS = 2  # more than there is room for, so that no machine waits for the next one


class Share(NamedTuple):
    """What a task takes of a machine."""

    cpus: int = 1
    gpus: int = 0


class Ended(NamedTuple):
    """A task that is done: the position of its call, and what the function returned."""

    call: int
    result: Any


def is_ray(engine: str) -> bool:
    """Whether `--engine` names Ray; anything but `local` and Ray is refused."""
    if engine != LOCAL and not re.fullmatch(r"ray(://\S+:\d+)?", engine):
        raise ConfigError(f"--engine {engine} is not known", fix="give local, ray, or ray://HOST:PORT")
    return engine != LOCAL


@contextlib.contextmanager
def ray_cluster(engine: str) -> Iterator["RayCluster"]:
    """Connect to the cluster that `--engine` names; the connection ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs the package ray", fix="pip install 'mcontriever[ray]'") from error
    address = engine.partition("://")[2]
    if address:
        require_host(engine, "give the address of the cluster's head, as `ray start --head` printed it")
    try:
        _init(ray, address)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        fix = "run this on a machine of the cluster, with the same version of Ray, and give its head's address"
        raise HubError(f"no Ray cluster answers: {reason}", where=engine, fix=fix) from error
    with contextlib.redirect_stdout(sys.stderr):  # where Ray tells of lost workers, at any moment
        try:
            cluster = RayCluster(ray)
            log.info(f"ray: {cluster.described()}")
            if not cluster.machines():
                log.warning("ray: no machine has a core for tasks yet; waiting for one")
            yield cluster
        finally:
            ray.shutdown()


def _init(ray: Any, address: str) -> None:
    """Ray takes SIGTERM for itself, which is ours."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or None, log_to_driver=False, logging_level="ERROR")
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class RayCluster:
    ray: Any

    def machines(self) -> list[dict[str, float]]:
        """What each living machine has for tasks."""
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return [has for has in alive if has.get("CPU", 0) >= 1]

    def described(self) -> str:
        machines = self.machines()
        cpus, gpus = (sum(int(has.get(kind, 0)) for has in machines) for kind in ("CPU", "GPU"))
        return f"{len(machines)} machines for tasks, {cpus} cores, {gpus} GPUs"

    def share(self, processes: int, gpus: bool) -> Share:
        """For `processes` tasks at a time on each machine; with GPUs, a task for each."""
        machines = [has for has in self.machines() if has.get("GPU", 0) >= 1 or not gpus]
        tasks = [max(processes, int(has.get("GPU", 0)) if gpus else 1) for has in machines]
        cores = [int(has["CPU"]) // count for has, count in zip(machines, tasks, strict=True)]
        return Share(max(1, min(cores, default=1)), int(gpus))

    def has_gpus(self) -> bool:
        return any(has.get("GPU", 0) >= 1 for has in self.machines())

    def room(self, share: Share) -> int:
        """How many tasks run at a time."""
        fitting = (
            min(int(has["CPU"]) // share.cpus, int(has.get("GPU", 0)) // share.gpus if share.gpus else 1 << 30)
            for has in self.machines()
        )
        return max(1, sum(fitting))

    def keep(self, value: Any) -> Any:
        """A value that many tasks take, sent once to each machine."""
        return self.ray.put(value)

    def run(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], share: Share, most: int | None = None
    ) -> Iterator[Ended | None]:
        """Yield each call as it ends, and None about once a second in between (for progress).

        At most `most` run at a time. The calls are taken as room appears. The first error of a call stops the others.
        """
        settings = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": RETRIES}
        task = self.ray.remote(**settings, scheduling_strategy="SPREAD")(_as_here)
        here = _Here(mcontriever.__version__, os.getcwd())
        waiting: dict[Any, int] = {}
        upcoming, is_last = enumerate(calls), False
        try:
            while waiting or not is_last:
                room = self.room(share)
                while not is_last and len(waiting) < (min(most, room) if most else room + WAITING_TASKS):
                    number, call = next(upcoming, (0, None))
                    if call is None:
                        is_last = True
                    else:
                        waiting[task.remote(here, function, *call)] = number
                done, _ = self.ray.wait(list(waiting), timeout=TICK_SECONDS) if waiting else ([], [])
                for one in done:
                    yield Ended(waiting.pop(one), self._result(one))
                yield None
        finally:
            for one in waiting:
                self.ray.cancel(one, force=True)

    def _result(self, task: Any) -> Any:
        exceptions = self.ray.exceptions
        try:
            return self.ray.get(task)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise RunError(
                f"a task of Ray failed: {error.cause!r}",
                fix="every machine needs this version of mcontriever, and the shared folders under the same paths",
            ) from error
        except exceptions.RayError as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise RunError(
                f"a task of Ray could not be done: {reason}",
                fix="run the same command again (finished shards are kept), with fewer --processes if memory ran out",
            ) from error


class _Here(NamedTuple):
    """What a task must find, or take over, from the machine that sent it."""

    version: str
    folder: str


def _as_here(here: _Here, function: Callable[..., Any], *call: Any) -> Any:
    """Run in a worker of Ray's: relative paths mean what they mean to the sender."""
    if mcontriever.__version__ != here.version:
        raise RunError(
            f"the machine {socket.gethostname()} has mcontriever {mcontriever.__version__}, this one {here.version}",
            fix="install one version on all machines",
        )
    with contextlib.suppress(OSError):  # only shared folders are everywhere
        os.chdir(here.folder)
    return function(*call)
