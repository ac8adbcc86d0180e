"""Rounds: jobs on two lanes, each killed and run again until it is done; then what runs alone; then the comparison."""

from __future__ import annotations

import json
import random
import re
import time
import traceback
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from threading import Condition, Thread
from typing import Any

from pyiceberg.exceptions import NoSuchTableError

from benchmarks.soak.check import mismatches
from benchmarks.soak.data import SPEC, Model
from benchmarks.soak.pool import FORK, Pool
from benchmarks.soak.readers import read_on
from benchmarks.soak.worker import Job
from lakehouse.catalog import open_catalog
from lakehouse.lease import HOLDER, lease_name
from lakehouse.ledger import BATCH, Ledger
from lakehouse.processes import this_host
from lakehouse.settings import Settings
from lakehouse.tags import create_tag, drop_tag

LANES, KILLS_OF_ONE, SHARE, REFUSALS = 2, 3, 0.85, 200
GUESS = {"expire": 1.0, "orphans": 1.0}  # seconds of a job before one was seen; 8 of the others
EVERY_REBUCKET, TAGS = 3, 2


@dataclass(frozen=True)
class Kill:
    """A job that was killed: the step that it was in, and what of it could be seen in the lake then."""

    kind: str
    step: str
    state: str


@dataclass
class Soak:
    """The run: what is going on, and what has been seen."""

    settings: Settings
    folder: Path
    seed: int
    until: float
    wanted: int
    kills: list[Kill] = field(default_factory=list)
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    erasing: list[tuple[float, float]] = field(default_factory=list)
    batches: set[str] = field(default_factory=set)
    rounds: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.model = Model(self.seed, self.folder / "raw")
        self.pool = Pool(self.settings, self.folder / "workers", LANES + 1)
        self.queue: list[Job] = []
        self.running = 0
        self.changed = Condition()

    @property
    def over(self) -> bool:
        """Whether nothing more is killed: jobs that were begun end by themselves."""
        return time.monotonic() > self.until or len(self.kills) >= self.wanted

    def run(self) -> None:
        """Rounds until the time is up or enough were killed, or something went wrong."""
        try:
            while not (self.over or self.failures or self.wrong):
                self._round(self.rounds)
                self.rounds += 1
                print(
                    f"round {self.rounds}: {len(self.kills)} kills, {len(self.wrong)} mismatches, "
                    f"{len(self.failures)} failures",
                    flush=True,
                )
        finally:
            self.pool.close()

    # ---- a round --------------------------------------------------------------------------------------------------

    def _round(self, number: int) -> None:
        model = self.model
        rows, _, told, _ = model.cohort(number)
        _, late, _, told_late = model.cohort(number - 1) if number else ([], [], [], [])
        whole = model.whole_users(number)
        self.draw.shuffle(whole)
        victims, sources, copied = whole[:1], whole[1:4], whole[2:7]
        copies = model.copies(copied, number)
        jobs = [
            Job("ingest", f"ingest-{number}", model.write_log(f"ingest-{number}", rows + copies)),
            Job("labels", f"labels-{number}", model.write_labels(f"labels-{number}", told)),
        ]
        if number:
            path = model.write_log(f"late-{number}", late)
            jobs += [
                Job("ingest", f"late-{number}", path),
                Job("ingest", f"late-{number}", path),  # two jobs with one batch id, perhaps at once
                Job("labels", f"labels-late-{number}", model.write_labels(f"labels-late-{number}", told_late)),
                Job("compact", f"compact-{number}"),
                Job("maintain", f"maintain-{number}"),
                Job("expire", f"expire-{number}"),
                Job("expire", f"expire-{number}-again"),
            ]
        if sources:
            source = model.write_source(f"source-{number}", sources, number)
            jobs.append(Job("backfill", f"backfill-{number}", source))
        jobs += [Job("erase", f"erase-{number}", user) for user in victims]
        readers = self._start_readers(number) if number else None
        self._all(jobs)
        if readers is not None:
            readers[1].send("stop")
            readers[0].join()
        self.batches |= {job.name for job in jobs if job.kind in ("ingest", "labels")}
        model.add(rows + copies + late, told + told_late)
        if sources:
            model.fill(sources, number)
        for user in victims:
            model.erase(user)
        if self.failures:
            return
        self._tag(number)
        if number % EVERY_REBUCKET == EVERY_REBUCKET - 1:
            self._all([Job("rebucket", f"rebucket-{number}", 3 + number // EVERY_REBUCKET % 2)])
        self._all([Job("orphans", f"orphans-{number}")])
        try:
            self.wrong += [f"round {number}: {what}" for what in mismatches(self.settings, model, self.batches)]
        except Exception:  # noqa: BLE001 - a lake that cannot be read is the worst mismatch
            self.wrong.append(f"round {number}: {traceback.format_exc()}")

    def _tag(self, number: int) -> None:
        """A training set of what there is now, for rounds to come; the oldest goes."""
        catalog = open_catalog(self.settings)
        create_tag(catalog, SPEC, self.settings, f"round-{number}")
        self.model.tags[f"round-{number}"] = self.model.expected()
        if len(self.model.tags) > TAGS:
            oldest = next(iter(self.model.tags))
            drop_tag(catalog, SPEC, self.settings, oldest)
            del self.model.tags[oldest]

    # ---- lanes ----------------------------------------------------------------------------------------------------

    def _all(self, jobs: list[Job]) -> None:
        """Every job until it is done, on two lanes."""
        self.queue = list(jobs)
        lanes = [Thread(target=self._lane) for _ in range(LANES)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def _lane(self) -> None:
        while True:
            with self.changed:
                while not self.queue and self.running:
                    self.changed.wait()
                if not self.queue or self.failures:
                    self.queue.clear()
                    self.changed.notify_all()
                    return
                job = self.queue.pop(self.draw.randrange(len(self.queue)))
                self.running += 1
            try:
                again = self._attempt(job)
            except Exception:  # noqa: BLE001 - a lane's own fault is a failure of the run
                self.failures.append(f"{job.name}: {traceback.format_exc()}")
                again = False
            with self.changed:
                self.running -= 1
                if again:
                    self.queue.append(job)
                self.changed.notify_all()

    def _attempt(self, job: Job) -> bool:
        """Run a job, perhaps until it is killed; whether it has to run again."""
        worker = self.pool.take(with_spark=job.needs_spark)
        kills = job.kills < KILLS_OF_ONE and not self.over and self.draw.random() < SHARE
        began, began_at = time.monotonic(), time.time()
        outcome = worker.run(job, self.draw.uniform(0, self._expected(job)) if kills else None)
        if job.kind == "erase":
            self.erasing.append((began_at, time.time()))
        if outcome is None:
            worker.kill()
            self.pool.bury(worker)
            if not kills:
                self.failures.append(f"{job.name} did not end: {worker.last_words()}")
                return False
            step = re.sub(r"\d[\d,.]*", "N", worker.last_words())
            self.kills.append(Kill(job.kind, step, self._state(job, worker.pid)))
            job.kills += 1
            return True
        if outcome.told.startswith("the worker died"):
            worker.kill()
            self.pool.bury(worker)
        else:
            self.pool.give_back(worker)
        self.runs[job.kind, outcome.what] += 1
        if outcome.what == "failed":
            self.failures.append(f"{job.name} ({job.kills} kills before): {outcome.told}")
            return False
        if outcome.what == "busy":
            job.refused += 1
            if job.refused > REFUSALS:
                self.failures.append(f"{job.name} was refused {REFUSALS} times, at last: {outcome.told}")
                return False
            time.sleep(0.3)
            return True
        self.took[job.kind].append(time.monotonic() - began)
        return False

    def _expected(self, job: Job) -> float:
        seen = self.took[job.kind][-5:]
        return mean(seen) if seen else GUESS.get(job.kind, 8.0)

    def _state(self, job: Job, pid: int) -> str:
        """What a killed job has left, as the catalog tells it."""
        catalog, found = open_catalog(self.settings), []
        with suppress(NoSuchTableError):
            if f'"pid": {pid},' in catalog.load_table(lease_name(SPEC)).properties.get(HOLDER, ""):
                found.append("lease")
        with suppress(NoSuchTableError):
            table = catalog.load_table(SPEC.table())
            if any(ref.startswith(f"audit_{this_host()}_{pid}x") for ref in table.metadata.refs):
                found.append("branch")
            elif job.kind in ("ingest", "labels"):
                told = (s.summary.additional_properties.get(BATCH) for s in table.metadata.snapshots if s.summary)
                if job.name in Ledger(catalog, SPEC, self.settings).batches():
                    found.append("in the ledger")
                elif job.name in told:
                    found.append("published, not in the ledger")
        return ", ".join(found) or "nothing"

    # ---- readers --------------------------------------------------------------------------------------------------

    def _start_readers(self, number: int) -> tuple[Any, Any]:
        orders, theirs = FORK.Pipe()
        arguments = (theirs, self.settings, self.folder / "epochs.jsonl", number)
        process = FORK.Process(target=read_on, args=arguments, daemon=True)
        process.start()
        return process, orders

    def epochs(self) -> Counter[str]:
        """How the epochs ended. One that breaks is a mismatch, and so is a pinned one that no erasure took away."""
        path, found = self.folder / "epochs.jsonl", Counter[str]()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            told = json.loads(line)
            kind = "pinned" if told["pinned"] else "free"
            outcome = told["outcome"]
            erased = any(began < told["ended"] and ended > told["began"] for began, ended in self.erasing)
            if outcome in ("differs", "broken") or (outcome == "gone" and told["pinned"] and not erased):
                self.wrong.append(f"a {kind} reader: {told}")
            found[f"{kind} {outcome}{', main moved on' if told.get('moved') else ''}"] += 1
        return found
