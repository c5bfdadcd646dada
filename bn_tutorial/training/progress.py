"""Progress of training: bars on a terminal, else a line for each run, both on stderr."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import IO, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bn_tutorial import settings
from bn_tutorial.training.runs import Run
from bn_tutorial.training.schedule import Task

#: Where progress goes; None means ``sys.stderr``.
REPORT_TO: IO[str] | None = None


class Report:
    """What one sees of training; a context manager.

    Parameters
    ----------
    tasks : sequence of Task
        All that will be trained.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.file = REPORT_TO or sys.stderr
        self.console = Console(file=self.file, soft_wrap=True, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.count, self.done = len(tasks), 0
        epochs = sum(task.recipe.epochs for task in tasks)
        self.overall = self.bars.add_task(f"all {self.count} runs", total=epochs)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bars.stop()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.say(f"Interrupted: {self.done} of {self.count} runs are finished and kept.")

    def bar(self, tasks: Sequence[Task]) -> Bar:
        """Return a bar for runs that are trained together."""
        return Bar(self, tasks)

    def finished(self, run: Run) -> None:
        """Say how a run has ended."""
        self.done += 1
        images = "validation" if run.recipe.validation else "test"
        measured = run.history.get("val_accuracy")
        right = f"{measured[-1]:.1%} of the {images} images right" if measured else "trained"
        outcome = "diverged" if run.diverged else right
        self.say(
            f"[{self.done}/{self.count}] {run.recipe.label}, seed {run.seed}: "
            f"{outcome}, {run.provenance.seconds or 0:.0f} s"
        )

    def unstored(self, error: settings.StorageError) -> None:
        """Say that a run could not be stored."""
        self.say(f"This run is not stored: {error}")

    def say(self, line: str) -> None:
        """Show a line, above the bars."""
        if self.console.is_terminal:
            self.console.print(line, markup=False)
        else:
            print(line, file=self.file)


class Bar:
    """A bar that appears when its runs begin; whoever trains them calls it after each epoch."""

    def __init__(self, report: Report, tasks: Sequence[Task]) -> None:
        self.report, self.lock = report, threading.Lock()
        self.total = len(tasks) * tasks[0].recipe.epochs
        seeds = ", ".join(str(task.seed) for task in tasks)
        self.label = f"{tasks[0].recipe.label}, seed{'s' if len(tasks) > 1 else ''} {seeds}"
        self.shown: TaskID | None = None
        self.epochs = 0

    def __call__(self, epochs: int) -> None:
        """Show that so many epochs are over; 0, and whatever comes first, says that it begins."""
        with self.lock:
            if self.shown is None:
                self.shown = self.report.bars.add_task(self.label, total=self.total)
            if epochs == 0:  # it begins, perhaps anew in another worker
                self._advance(-self.epochs)
            self._advance(min(epochs, self.total - self.epochs))

    def _advance(self, epochs: int) -> None:
        self.epochs += epochs
        for bar in (self.shown, self.report.overall):
            if bar is not None:
                self.report.bars.advance(bar, epochs)

    def end(self) -> None:
        """Take the bar away, as its runs are done."""
        with self.lock:
            self._advance(self.total - self.epochs)  # a run that diverged, or was taken over
            if self.shown is not None:
                self.report.bars.remove_task(self.shown)
                self.shown = None
