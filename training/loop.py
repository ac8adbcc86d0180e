"""The training loop: batches of whole requests from the reader to a checkpointed ranker.

One process or `torchrun` (training.ranks). A run that is killed, interrupted or diverges leaves a checkpoint, from
which `resume` goes on to the very parameters that an undisturbed run reaches.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pyiceberg.table import Table

from feature_reader import Reader, RequestBatch
from lakehouse.errors import ReqlakeError
from lakehouse.settings import Settings
from training.checkpoint import Epoch, TrainState, latest_checkpoint, load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.errors import DivergedError, StoppedError, TrainingError
from training.export import write_export
from training.lock import sole_owner
from training.losses import task_losses, total_loss
from training.models import Ranker
from training.progress import Silence, Step, Watcher
from training.ranks import Ranks
from training.run import Run, open_run, request_table, start_run, tensors
from training.schedule import one_cycle, set_rates
from training.validation import validate

EXPORT = "export"
VALIDATION_REQUESTS = 256


@dataclass(frozen=True)
class TrainReport:
    """What a run came to. `seconds` are of training and validation, `candidates_per_s` of this process."""

    run: Path
    export: Path
    version: str
    steps: int
    epochs: tuple[Epoch, ...]
    best: Epoch
    parameters: int
    seconds: float
    requests_per_s: float
    candidates_per_s: float
    reader_wait: float


def train(config: TrainConfig, settings: Settings, progress: Watcher | None = None) -> TrainReport:
    """Train a new run. Raises TrainingError and its kind; a run that has made a step leaves a checkpoint."""
    ranks = Ranks.join(config.device)
    if ranks.world_size > 1 and config.run is None:
        raise TrainingError("with several processes, name the run's folder (`run`), so that all agree on it")
    if ranks.is_first:
        run, table = start_run(config, settings)
        ranks.wait()
    else:
        ranks.wait()
        run, table = open_run(Path(str(config.run))), request_table(config.table, settings)
    with sole_owner(run.folder) if ranks.is_first else nullcontext():
        return Loop(run, table, ranks, progress or Silence()).go()


def resume(folder: Path, settings: Settings, progress: Watcher | None = None) -> TrainReport:
    """Go on with a run from its latest checkpoint, or from its start where it has none.

    Raises TrainingError where another process trains it at this moment.
    """
    run = open_run(folder)
    ranks = Ranks.join(run.config.device)
    with sole_owner(run.folder) if ranks.is_first else nullcontext():
        return Loop(run, request_table(run.config.table, settings), ranks, progress or Silence()).go()


class Loop:
    """One process's part of a run."""

    def __init__(self, run: Run, table: Table, ranks: Ranks, watcher: Watcher) -> None:
        self.run, self.config, self.table, self.ranks = run, run.config, table, ranks
        self.watcher = watcher if ranks.is_first else Silence()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.model = Ranker(run.inputs, self.config.model).to(self.config.device).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
        )
        self.reader = self._reader()
        self.steps = self.config.epochs * len(self.reader)
        self.state = TrainState(reader=self.reader.state_dict())
        if (latest := latest_checkpoint(run.folder)) is not None:
            self.state = load_checkpoint(latest, self.model, self.optimizer)
            self.reader.load_state_dict(self.state.reader)

    def go(self) -> TrainReport:
        """Train what is left, then export the best epoch."""
        parameters = sum(p.numel() for p in self.model.parameters())
        self.watcher.planned(self.steps, parameters, self.state.step)
        began, first = time.perf_counter(), self.state.step
        spent = self.state.seconds
        with torch.random.fork_rng(devices=[]), stop_signal() as stop, self._kept_on_error():
            while self.reader.epoch < self.config.epochs:
                for batch in self.reader:
                    self._step(batch.torch(), began)
                    self.state.seconds = spent + time.perf_counter() - began
                    if self.ranks.any(stop.is_set()):
                        raise StoppedError(f"stopped at step {self.state.step} of {self.steps}")
                    if self.state.step % self.config.checkpoint_steps == 0:
                        self._save()
                self._end_epoch(began, spent)
            version = self._export()
        stats, seconds = self.reader.stats, max(time.perf_counter() - began, 1e-9)
        best = self.state.best_epoch
        assert best is not None
        return TrainReport(
            run=self.run.folder,
            export=self.run.folder / EXPORT,
            version=version,
            steps=self.state.step,
            epochs=tuple(self.state.epochs),
            best=best,
            parameters=parameters,
            seconds=self.state.seconds,
            requests_per_s=stats.requests / seconds if self.state.step > first else 0.0,
            candidates_per_s=stats.candidates / seconds if self.state.step > first else 0.0,
            reader_wait=stats.wait_s / seconds,
        )

    def _reader(self) -> Reader:
        per_rank, rest = divmod(self.config.batch_requests, self.ranks.world_size)
        if rest:
            raise TrainingError(
                f"batch_requests {self.config.batch_requests} does not divide among {self.ranks.world_size} processes"
            )
        return self.run.reader(
            self.table,
            self.run.split.train,
            batch_requests=per_rank,
            seed=self.config.seed,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
        )

    def _step(self, batch: RequestBatch, began: float) -> None:
        """One update. Raises DivergedError before the parameters take up what is not finite."""
        step, tasks = self.state.step, self.run.inputs.tasks
        seed = np.random.SeedSequence((self.config.seed, step, self.ranks.rank)).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed))
        seen = self.model.window(batch, self.config.device)
        batch = batch.to(self.config.device)
        logits_CK = self.model(batch, seen)
        weight_C = batch.weight[batch.request_index] if batch.padding else None
        sums_K, counts_K = task_losses(logits_CK, batch, tasks, weight_C)
        counts_K = self.ranks.sum(counts_K)
        loss = total_loss(sums_K, counts_K, tasks)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.sum_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        value = float(self.ranks.sum(loss.detach()))
        if not (np.isfinite(value) and bool(norm.isfinite())):
            self._diverge(batch, value, float(norm))
        rates = one_cycle(step, self.steps, self.config.learning_rate, self.config.warmup_share)
        set_rates(self.optimizer, *rates)
        self.optimizer.step()
        self.state.step, self.state.reader = step + 1, self.reader.state_dict()
        self.state.loss_sum, self.state.loss_steps = self.state.loss_sum + value, self.state.loss_steps + 1
        stats, seconds = self.reader.stats, max(time.perf_counter() - began, 1e-9)
        self.watcher.stepped(
            Step(
                step=self.state.step,
                steps=self.steps,
                epoch=self.reader.epoch,
                loss=value,
                requests_per_s=stats.requests / seconds,
                candidates_per_s=stats.candidates / seconds,
                wait=stats.wait_s / seconds,
            )
        )

    def _end_epoch(self, began: float, spent: float) -> None:
        held_out = self.run.reader(
            self.table, self.run.split.validation, batch_requests=VALIDATION_REQUESTS, shuffle=False
        )
        found = validate(self.model, tensors(held_out), self.config.device)
        before = self.state.best_epoch
        self.state.seconds = spent + time.perf_counter() - began
        epoch = Epoch(
            epoch=self.reader.epoch - 1,
            step=self.state.step,
            loss=self.state.loss_sum / max(self.state.loss_steps, 1),
            validation=found.loss,
            validation_auc=found.auc,
            seconds=self.state.seconds,
        )
        self.state.epochs.append(epoch)
        better = before is None or epoch.validation < before.validation
        if better:
            self.state.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.state.loss_sum, self.state.loss_steps = 0.0, 0
        self.state.reader = self.reader.state_dict()
        self._save()
        self.watcher.validated(epoch, better)

    def _save(self) -> None:
        if self.ranks.is_first:
            save_checkpoint(self.run.folder, self.model, self.optimizer, self.state)
        self.ranks.wait()

    @contextmanager
    def _kept_on_error(self) -> Iterator[None]:
        """Whatever stops the run on purpose (Ctrl-C, a loss that diverges, a file that the reader cannot read) leaves
        the model of the latest whole step in a checkpoint, and the error says where."""
        try:
            yield
        except ReqlakeError as error:
            if self.ranks.is_first:
                path = save_checkpoint(self.run.folder, self.model, self.optimizer, self.state)
                remedy = f"go on with `reqlake train --resume {self.run.folder}`"
                error.args = (f"{error}. {path} holds the model; {remedy}",)
            raise

    def _diverge(self, batch: RequestBatch, loss: float, norm: float) -> None:
        user, request = (int(batch[name][0]) for name in ("user_id", "request_id"))  # type: ignore[index]
        raise DivergedError(
            f"step {self.state.step + 1}: loss {loss}, gradient norm {norm}, in the batch that begins with "
            f"user_id {user}, request_id {request}; that update was not made. "
            "Look at the batch, or lower learning_rate in a new run"
        )

    def _export(self) -> str:
        best = self.state.best_epoch
        assert best is not None
        assert self.state.best is not None
        model = Ranker(self.run.inputs, self.config.model)
        model.load_state_dict(self.state.best)
        origin = {
            "table": self.config.table,
            "snapshot_id": self.run.snapshot_id,
            "split": self.run.split.to_json(),
            "step": best.step,
            "validation": best.validation,
        }
        exports = self.run.folder / "exports"
        if not self.ranks.is_first:
            return ""
        version = write_export(exports, model, self.run.spec, origin)
        pointer = self.run.folder / f".{EXPORT}.partial"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(Path("exports") / version)
        pointer.replace(self.run.folder / EXPORT)
        return version


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that the step at hand is finished; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
