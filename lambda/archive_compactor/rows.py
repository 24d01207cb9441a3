"""Rows of the compacted archive: lines of the raw archive to Parquet and back.

A row is a reading. The first row of a record has the message's bytes, so nothing of the raw archive is lost.
The same lines give the same bytes: rows are sorted, and every setting of the writer that shapes a file is set here.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import arro3.io
import msgspec
from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table
from arro3.io import read_parquet, write_parquet

from fleet_iot.sensor_processor.ingest.codec import decode_base64, encode_base64
from fleet_iot.sensor_processor.ingest.reading import Message, PoisonReading, decode_loosely, json_lines, unframed

from .layout import column_of

_TIME = DataType.timestamp("ms", tz="UTC")
_FIXED: Mapping[str, tuple[DataType, bool]] = {
    "sequence_number": (DataType.string(), False),
    "reading": (DataType.int32(), False),
    "thing": (DataType.string(), False),
    "client_id": (DataType.string(), False),
    "principal": (DataType.string(), False),
    "arrived_at": (_TIME, False),
    "received_at": (_TIME, False),
    "trace_id": (DataType.string(), False),
    "taken_at": (_TIME, True),
    "sequence": (DataType.int64(), True),
    "raw": (DataType.binary(), True),
}
"""Column → its type, and whether it may be null. `reading` counts from 0 within a record."""

FIXED_COLUMNS = tuple(_FIXED)
LINE_COLUMNS = ("sequence_number", "thing", "client_id", "principal", "arrived_at", "received_at", "trace_id")
"""Columns that are fields of a raw line."""

COMPRESSION = "zstd(3)"
WRITER = f"fleet archive_compactor, arro3 {arro3.io.__version__}"
"""Part of names, too: another version of the library may write other bytes."""

ROW_GROUP_ROWS = 1 << 20
CHUNK_ROWS = 50_000
"""Rows held as Python objects before they become Arrow's, at an eighth of the memory."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of the raw archive."""

    sequence_number: str
    facility: str
    device_type: str
    thing: str
    client_id: str
    principal: str
    received_at: int
    raw: str
    arrived_at: int = 0
    trace_id: str = ""


_decode_line = msgspec.json.Decoder(Line).decode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_lines(body: bytes) -> Iterator[Line]:
    """Read the lines of a raw object."""
    for line in zlib.decompress(body, wbits=31).splitlines():
        yield _decode_line(line)


def messages_of(payload: bytes) -> list[Message]:
    """Return the readings in a message that the sensor processor accepted; none where they cannot be read."""
    payload = unframed(payload)
    try:
        if payload.startswith(b"["):
            return [_message(bytes(part)) for part in _decode_parts(payload)]
        try:
            return [_message(payload)]
        except msgspec.DecodeError:
            return [_message(line) for line in json_lines(payload)]
    except (msgspec.DecodeError, PoisonReading, UnicodeDecodeError, RecursionError):
        return []


def _message(payload: bytes) -> Message:
    try:
        return _decode_message(payload)
    except msgspec.ValidationError:
        return decode_loosely(payload)[0]


class PartitionRows:
    """Collects the rows of one facility, device type and date."""

    def __init__(self, metrics: Iterable[str]) -> None:
        self._metrics = tuple(sorted(metrics))
        self.schema = schema_of(column_of(name) for name in self._metrics)
        self._batches: list[RecordBatch] = []
        self._clear()
        self.sequence_numbers: list[str] = []

    def add(self, line: Line) -> int:
        """Add the rows of a line; return their number."""
        self.sequence_numbers.append(line.sequence_number)
        payload = decode_base64(line.raw)
        fixed = self._fixed
        messages: Sequence[Message | None] = messages_of(payload) or [None]
        for number, message in enumerate(messages):
            for name in LINE_COLUMNS:
                fixed[name].append(getattr(line, name))
            fixed["reading"].append(number)
            fixed["raw"].append(None if number else payload)
            fixed["taken_at"].append(message and message.time)
            fixed["sequence"].append(message and message.sequence)
            metrics = message.metrics if message else {}
            for name, values in zip(self._metrics, self._values, strict=True):
                values.append(metrics.get(name))
        if len(fixed["reading"]) >= CHUNK_ROWS:
            self._flush()
        return len(messages)

    def table(self) -> Table:
        """Return all rows, sorted."""
        self._flush()
        return sorted_rows(self._batches, self.schema)

    def _clear(self) -> None:
        self._fixed: dict[str, list[Any]] = {name: [] for name in _FIXED}
        self._values: list[list[float | None]] = [[] for _ in self._metrics]

    def _flush(self) -> None:
        if self._fixed["reading"]:
            columns = [_array(self._fixed[name], type_) for name, (type_, _) in _FIXED.items()]
            columns += [Array(values, type=DataType.float64()) for values in self._values]
            self._batches.append(RecordBatch.from_arrays(columns, schema=self.schema))
            self._clear()


def schema_of(metric_columns: Iterable[str]) -> Schema:
    """Return the schema of a file with these columns of metrics."""
    fields = [Field(name, type_, nullable=can_be_null) for name, (type_, can_be_null) in _FIXED.items()]
    return Schema([*fields, *(Field(name, DataType.float64(), nullable=True) for name in metric_columns)])


def sorted_rows(batches: Sequence[RecordBatch], schema: Schema) -> Table:
    """Join batches and sort them by thing, device time and place in the stream."""
    (batch,) = Table.from_batches(batches, schema=schema).combine_chunks().to_batches() if batches else [None]
    if batch is None:
        return Table.from_batches([], schema=schema)
    things = batch.column("thing").to_pylist()
    numbers = batch.column("sequence_number").to_pylist()
    times = batch.column("taken_at").cast(DataType.int64()).to_pylist()
    places = batch.column("reading").to_pylist()
    keys = [
        (thing, time is not None, time or 0, len(number), number, place)
        for thing, time, number, place in zip(things, times, numbers, places, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return Table.from_batches([batch.take(Array(order, type=DataType.uint32()))], schema=schema)


def to_parquet(table: Table) -> bytes:
    """Encode a table; the same rows always give the same bytes."""
    file = io.BytesIO()
    plain = [name for name, (type_, _) in _FIXED.items() if type_ in (_TIME, DataType.int64())]
    write_parquet(
        table,
        file,
        compression=COMPRESSION,
        created_by=WRITER,
        writer_version="parquet_1_0",
        skip_arrow_metadata=True,
        max_row_group_size=ROW_GROUP_ROWS,
        dictionary_enabled=True,
        column_dictionary_enabled=dict.fromkeys([*plain, "sequence_number", "trace_id", "raw"], False),
        column_encoding={**dict.fromkeys(plain, "delta_binary_packed"), "sequence_number": "delta_byte_array"},
        column_max_statistics_size={"raw": 0},
        bloom_filter_enabled=False,
        data_page_row_count_limit=20_000,
        data_page_size_limit=1024 * 1024,
        dictionary_page_size_limit=1024 * 1024,
        write_batch_size=1024,
    )
    return file.getvalue()


def from_parquet(body: bytes) -> list[RecordBatch]:
    """Decode a Parquet object."""
    return list(read_parquet(io.BytesIO(body), batch_size=ROW_GROUP_ROWS))


def widened(batch: RecordBatch, schema: Schema) -> RecordBatch:
    """Return a batch with all columns of `schema`, null where it lacks them: a metric was added on that day."""
    has = set(batch.column_names)
    columns = [
        batch.column(name) if name in has else Array([None] * batch.num_rows, type=DataType.float64())
        for name in schema.names
    ]
    return RecordBatch.from_arrays(columns, schema=schema)


def sequence_numbers_of(batches: Iterable[RecordBatch]) -> Iterator[str]:
    """Return the sequence number of each record, once."""
    for batch in batches:
        for number, place in zip(
            batch.column("sequence_number").to_pylist(), batch.column("reading").to_pylist(), strict=True
        ):
            if not place:
                yield number


def lines_of(batches: Iterable[RecordBatch], *, facility: str, device_type: str) -> Iterator[dict[str, Any]]:
    """Return the raw archive's lines that the rows were made of."""
    for batch in batches:
        columns = {name: batch.column(name) for name in (*LINE_COLUMNS, "raw", "reading")}
        for name in ("arrived_at", "received_at"):
            columns[name] = columns[name].cast(DataType.int64())
        values = {name: column.to_pylist() for name, column in columns.items()}
        for row, place in enumerate(values["reading"]):
            if not place:
                line = {name: values[name][row] for name in LINE_COLUMNS}
                raw = encode_base64(values["raw"][row])
                yield {**line, "facility": facility, "device_type": device_type, "raw": raw}


def _array(values: list[Any], type_: DataType) -> Array:
    return Array(values, type=DataType.int64()).cast(type_) if type_ == _TIME else Array(values, type=type_)
