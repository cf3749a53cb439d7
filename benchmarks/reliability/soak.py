"""Kill commands at random moments, run them again, and compare with undisturbed runs: is anything ever lost?

    make soak MINUTES=60            or: python benchmarks/reliability/soak.py --minutes 60 [--seed 7] [--only index]

Each round draws a command (prepare with two workers, train on one and two ranks, embed, append, replace, delete,
compact, index, mine), starts it, and ends it up to six times, each at a moment drawn from the time that it takes:
mostly by SIGKILL to it and all its processes, sometimes to one of two ranks, sometimes by SIGTERM or SIGINT, which must
end it within seconds. Then it runs to its end. What it made must be what the undisturbed run made, nothing unfinished
may lie beside it, and a store must show its former or its new rows after every kill. All draws come from the seed,
which is printed. Files lie in TMPDIR; a kill of a process loses nothing that the system holds, so a folder in memory
(/dev/shm) will do, and is quick. `--append-results` adds to the figures of a run before.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from forked_commands import Forked  # noqa: E402 (after the environment)

RESULTS = Path(__file__).parent / "results" / "soak.json"
MOST_KILLS = 6
LONGEST_SECONDS = 600
ENDING_SECONDS = 60  # after SIGTERM or SIGINT; ours is 5, and the machine may be busy
LAUNCHER_SECONDS = 10
WAYS = ("SIGKILL",) * 8 + ("SIGTERM", "SIGINT")
INTERRUPTED = 130


class LostError(Exception):
    """What must never happen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default=None, help="the name of one command")
    parser.add_argument("--by", default=None, choices=sorted(set(WAYS)), help="one way of ending it")
    parser.add_argument("--append-results", action="store_true", help="add to the figures of the runs before")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), seed, given.only, WAYS if given.by is None else (given.by,))
        began = time.monotonic()
        while time.monotonic() - began < 60 * given.minutes:
            soak.round()
        summary = soak.summary(given.minutes, seed)
    print(json.dumps(summary, indent=2))
    if given.only is None and given.by is None:
        _keep(summary, append=given.append_results)
    sys.exit(1 if summary["lost"] else 0)


def _keep(summary: dict[str, Any], append: bool) -> None:
    runs = [*(json.loads(RESULTS.read_text())["runs"] if append else []), summary]
    total = {name: sum(run[name] for run in runs) for name in ("minutes", "rounds", "kills")}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({**total, "lost": sum(len(run["lost"]) for run in runs), "runs": runs}, indent=2) + "\n"
    )


class Soak:
    def __init__(self, folder: Path, seed: int, only: str | None, ways: Sequence[str]) -> None:
        from soak_cases import cases, make_material, write_configs

        self.folder, self.work, self.ended_by, self.drawn = folder, folder / "work", ways, random.Random(seed)
        material = folder / "material"
        material.mkdir()
        make_material(material, seed)
        write_configs(material, self.work)
        self.kills: Counter[str] = Counter()
        self.rounds: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.lost: list[str] = []
        self.longest_end = 0.0
        every = cases(material, self.work)
        by_name = {case.name: case for case in every}
        self.expected: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        for name, kept in (("prepare", "tokens"), ("embed", "store")):
            self._undisturbed(by_name[name])
            shutil.copytree(self.work, material / kept)
        self._undisturbed(by_name["delete"])
        shutil.copytree(self.work, material / "thinned")
        for case in every:
            if case.name not in self.expected and only in (None, case.name):
                self._undisturbed(case)
        self.before = {case.name: case.state(case.start) for case in every if case.is_store and case.start}
        self.cases = [case for case in every if only in (None, case.name)]

    def round(self) -> None:
        case = self.drawn.choice(self.cases)
        number = sum(self.rounds.values())
        self.rounds[case.name] += 1
        print(f"round {number}: {case.name} ...", flush=True)
        try:
            self._place(case)
            for _ in range(self.drawn.randint(1, MOST_KILLS)):
                if self._ended_by_itself(case):
                    break
            self._run(case)
            self._compare(case)
            outcome = "the same"
        except LostError as error:
            outcome = f"LOST: {error}"
            self.lost.append(f"round {number}, {case.name}: {error}")
            if self.work.exists():
                shutil.copytree(self.work, Path(tempfile.gettempdir()) / f"soak-lost-{os.getpid()}-{number}")
        print(f"round {number}: {case.name}, {sum(self.kills.values())} kills so far, {outcome}", flush=True)

    def summary(self, minutes: float, seed: int) -> dict[str, Any]:
        return {
            "command": f"python benchmarks/reliability/soak.py --minutes {minutes:g} --seed {seed}",
            "minutes": minutes,
            "rounds": sum(self.rounds.values()),
            "kills": sum(self.kills.values()),
            "kills by command": dict(sorted(self.kills.items())),
            "ends by way": dict(sorted(self.ways.items())),
            "longest end after a signal, seconds": round(self.longest_end, 1),
            "lost": self.lost,
        }

    def _ended_by_itself(self, case: Any) -> bool:
        """Start, and end it at a random moment; True if it was done before that."""
        way = signal.Signals[self.drawn.choice(self.ended_by)]
        moment = self.drawn.random() * self.seconds[case.name]
        one_rank = case.ranks > 1 and self.drawn.random() < 0.5
        process = self._start(case)
        if process.wait(moment):
            self._require_code(process, (0,))
            return True
        running = process.running()
        process.send(way, [self.drawn.choice(running)] if one_rank else running)
        self._await_end(case, process, way, one_rank)
        self.kills[case.name] += 1
        self.ways[f"{way.name} to one of two ranks" if one_rank else way.name] += 1
        if case.is_store and (found := case.state(self.work)) not in (self.before[case.name], self.expected[case.name]):
            raise LostError(f"after {way.name} a reader found neither the former nor the new rows ({len(found)})")
        return False

    def _await_end(self, case: Any, process: Forked, way: signal.Signals, one_rank: bool) -> None:
        if one_rank and not process.wait(LAUNCHER_SECONDS):  # a launcher ends the others
            process.send(signal.SIGKILL, process.running())
        began = time.monotonic()
        if not process.wait(ENDING_SECONDS):
            process.send(signal.SIGKILL, process.running())
            raise LostError(f"still running {ENDING_SECONDS} s after {way.name}: {process.printed()}")
        if way == signal.SIGKILL or one_rank:
            return
        self.longest_end = max(self.longest_end, time.monotonic() - began)
        stops = (0, INTERRUPTED, -way)  # the last: before the command had begun
        stops = (*stops, 2) if case.ranks > 1 else stops  # 2: the other rank stopped first
        self._require_code(process, stops)
        if "Traceback" in process.printed():
            raise LostError(f"{way.name} ended in a traceback: {process.printed()}")

    def _undisturbed(self, case: Any) -> None:
        self._place(case)
        began = time.monotonic()
        self._run(case)
        self.seconds[case.name] = time.monotonic() - began
        self.expected[case.name] = case.state(self.work)
        print(f"{case.name}: {self.seconds[case.name]:.1f} s undisturbed", flush=True)

    def _place(self, case: Any) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        if case.start is not None:
            shutil.copytree(case.start, self.work)

    def _start(self, case: Any) -> Forked:
        output = self.folder / "output.txt"
        output.unlink(missing_ok=True)
        return Forked(case.words, output, case.ranks)

    def _run(self, case: Any) -> None:
        process = self._start(case)
        if not process.wait(LONGEST_SECONDS):
            process.send(signal.SIGKILL, process.running())
            raise LostError(f"not done after {LONGEST_SECONDS} s")
        self._require_code(process, (0,))

    def _require_code(self, process: Forked, allowed: tuple[int, ...]) -> None:
        if any(code not in allowed for code in process.codes()):
            raise LostError(f"exit codes {process.codes()}: {process.printed()}")

    def _compare(self, case: Any) -> None:
        if case.state(self.work) != self.expected[case.name]:
            raise LostError("the result is not that of an undisturbed run")
        left = [path for path in self.work.rglob(".partial-*") if path.exists()]
        if left:
            raise LostError(f"left behind: {', '.join(str(path.relative_to(self.work)) for path in left)}")


if __name__ == "__main__":
    main()
