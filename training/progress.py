"""What a run tells while it trains, and the live display of it in a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.checkpoint import Epoch


@dataclass(frozen=True)
class Step:
    """One step. `candidates` of this batch; rates are of this process since it began; `wait` is a share of its time."""

    step: int
    steps: int
    epoch: int
    loss: float
    requests_per_s: float
    candidates_per_s: float
    wait: float


class Watcher(Protocol):
    """Is told of what a run does."""

    def planned(self, steps: int, parameters: int, first: int) -> None:
        """Training begins at step `first` of `steps`."""

    def stepped(self, step: Step) -> None:
        """A step is done."""

    def validated(self, epoch: Epoch, best: bool) -> None:
        """An epoch is done; `best` if none before was better."""


class Silence:
    """Tells nobody."""

    def planned(self, steps: int, parameters: int, first: int) -> None:
        """Say nothing."""

    def stepped(self, step: Step) -> None:
        """Say nothing."""

    def validated(self, epoch: Epoch, best: bool) -> None:
        """Say nothing."""


class LiveProgress:
    """A bar with step, loss, requests/s, candidates/s and reader wait, and a line for each epoch. A context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
        )
        self.bar: TaskID | None = None
        self.loss = 0.0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def planned(self, steps: int, parameters: int, first: int) -> None:
        """Draw the bar."""
        self.progress.console.print(
            f"{parameters:,} parameters, {steps:,} steps" + (f", from step {first:,}" if first else "")
        )
        self.bar = self.progress.add_task("train", total=steps, completed=first, numbers="")

    def stepped(self, step: Step) -> None:
        """Move the bar."""
        self.loss = step.loss if not self.loss else 0.95 * self.loss + 0.05 * step.loss
        if self.bar is not None:
            numbers = (
                f"loss {self.loss:.4f}  {step.requests_per_s:,.0f} requests/s  "
                f"{step.candidates_per_s:,.0f} candidates/s  reader wait {step.wait:.0%}"
            )
            self.progress.update(self.bar, completed=step.step, numbers=numbers)

    def validated(self, epoch: Epoch, best: bool) -> None:
        """Write a line."""
        self.progress.console.print(
            f"epoch {epoch.epoch + 1}: loss {epoch.loss:.4f}, validation {epoch.validation:.4f}, "
            f"AUC {epoch.validation_auc:.4f}, {epoch.seconds:.1f} s" + (" (best so far)" if best else "")
        )
