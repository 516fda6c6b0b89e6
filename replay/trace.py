"""What ran when, on which thread: a file in Chrome's trace event format, which opens in Perfetto and chrome://tracing.

Format: Trace Event Format, Google, 2016: an array of events, `X` (complete) with times in microseconds, `M` (metadata).
The array is written as it comes, and a reader accepts it without its end: a trace that was cut is a trace.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from ..errors import RecordingError, unwritable
from ..runtime.predictions import Predictions
from ..runtime.stages import StageSpan


class TraceWriter:
    """Writes spans to a file, one event a line.

    Parameters
    ----------
    path : the file
    overwrite : whether it may be there already

    Raises
    ------
    RecordingError
        The file is there, or cannot be written; so do the methods.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._threads: dict[str, int] = {}
        self._first_ns: int | None = None
        self._separator = "[\n"
        try:
            self._file = self.path.open("w" if overwrite else "x", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        self._process = os.getpid()
        self._write({"ph": "M", "name": "process_name", "args": {"name": "octobev"}}, thread=0)

    def add(self, spans: Iterable[StageSpan], predictions: Predictions) -> None:
        """Add what ran for the set that these predictions are of."""
        for span in spans:
            if self._first_ns is None:
                self._first_ns = span.start_ns
            event: dict[str, Any] = {
                "ph": "X",
                "name": span.stage,
                "ts": (span.start_ns - self._first_ns) / 1e3,
                "dur": span.duration_ns / 1e3,
                "args": {"set": predictions.sequence, "timestamp_ns": predictions.timestamp_ns},
            }
            if span.cameras:
                event["args"] = {"cameras": ", ".join(span.cameras), **event["args"]}
            self._write(event, self._thread(span.thread))

    def close(self) -> None:
        """End the array and the file."""
        if self._file.closed:
            return
        try:
            with self._file:
                self._file.write("\n]\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _thread(self, name: str) -> int:
        """Number of a thread; one that is new is introduced."""
        number = self._threads.get(name)
        if number is None:
            number = self._threads[name] = len(self._threads) + 1
            self._write({"ph": "M", "name": "thread_name", "args": {"name": name}}, number)
        return number

    def _write(self, event: dict[str, Any], thread: int) -> None:
        try:
            self._file.write(self._separator + json.dumps({**event, "pid": self._process, "tid": thread}))
        except OSError as error:
            raise self._unwritable(error) from error
        self._separator = ",\n"

    def _unwritable(self, error: OSError) -> RecordingError:
        return RecordingError(unwritable(self.path, error))
