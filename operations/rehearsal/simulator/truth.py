"""The truth of a run, written beside it: every message that the broker took, every anomaly put in.

JSON lines: one `run`, then `anomaly` lines, then a `reading`, `poison` or `repeat` line for each acknowledged
publish, with the metrics that were sent.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from fleet_iot.operations.rehearsal.simulator.schedule import Anomaly, Message


class TruthFile:
    """Appends to the truth from many device threads and counts what it wrote."""

    def __init__(self, path: Path, *, run: dict[str, Any], anomalies: Iterable[Anomaly]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._fault: OSError | None = None
        self._lock = threading.Lock()
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.things: set[str] = set()
        self._write({"line": "run", **run})
        for anomaly in anomalies:
            self._write({"line": "anomaly", **asdict(anomaly)})

    def answered(self, message: Message, is_accepted: bool) -> None:
        """Note the broker's answer to one publish."""
        with self._lock:
            if not is_accepted:
                self.refused[message.kind] += 1
                return
            self.accepted[message.kind] += 1
            self.things.add(message.thing.name)
            self._write(
                {
                    "line": message.kind,
                    "thing": message.thing.name,
                    "facility": message.thing.facility,
                    "device_type": message.thing.device_type,
                    "time": message.time_ms,
                    "sequence": message.sequence,
                    "metrics": message.metrics,
                    "poison": message.poison,
                }
            )

    def close(self) -> None:
        """Flush and close the file. Raises OSError, with its path, where the disk did not take all of it."""
        try:
            self._file.close()
        except OSError as error:
            self._fault = self._fault or error
        if self._fault is not None:
            raise OSError(self._fault.errno, self._fault.strerror, self._file.name) from self._fault

    def _write(self, line: dict[str, Any]) -> None:
        # In a thread of the MQTT client nobody would see it: devices go on, and `close` says it.
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            self._fault = self._fault or error


def read_truth(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a truth file, `line` telling their kind; numbers keep every digit that was sent (Decimal)."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line, parse_float=Decimal)
