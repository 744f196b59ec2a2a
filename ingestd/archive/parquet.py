"""Readings as Parquet: written from CSV as it comes, read back, and turned into CSV again.

The columns have the names of the API. A file has groups of about 160,000 rows, and only one is in memory at a time.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import pyarrow as pa
from pyarrow import compute, csv, parquet

from ingestd.archive.digest import Digest
from ingestd.errors import ArchiveError
from ingestd.model.periods import TimeRange
from ingestd.model.stream import Stream
from ingestd.model.timestamps import EPOCH

Table: TypeAlias = Any
"""pyarrow has no types."""
Take: TypeAlias = Callable[[bytes], object]
"""Takes a chunk of CSV: whole lines. The first line has the names."""

ROW_GROUP_BYTES: Final = 16 * 1024 * 1024
"""Bytes of CSV for one row group: about 160,000 readings."""
TIME: Final = pa.timestamp("us", tz="UTC")
_UNIX_MICROSECONDS: Final = int(EPOCH.timestamp()) * 1_000_000
_LINES: Final = 1000
"""In a chunk of CSV."""
_QUOTED: Final = '[",\r\n]'


def types_of(stream: Stream) -> dict[str, Any]:
    """The columns with their types, in the order of the CSV."""
    figures = dict.fromkeys(stream.columns, pa.float64())
    return {stream.id_key: pa.string(), "timestamp": TIME, **figures, "receivedAt": TIME}


def table_of(text: bytes | bytearray, stream: Stream) -> Table:
    """CSV with its line of names."""
    return csv.read_csv(
        BytesIO(text),
        read_options=csv.ReadOptions(use_threads=False),  # one core is enough, the others have other work
        parse_options=csv.ParseOptions(newlines_in_values=True),
        # Only what is empty is null: by default "NA" is, too.
        convert_options=csv.ConvertOptions(column_types=types_of(stream), null_values=[""], strings_can_be_null=False),
    )


class Writer:
    """Makes Parquet of the CSV that it takes."""

    def __init__(self, file: BinaryIO, stream: Stream) -> None:
        types = types_of(stream)
        times = ["timestamp", "receivedAt"]
        self._stream = stream
        self._held = bytearray()
        self._writer = parquet.ParquetWriter(
            file,
            pa.schema(types),
            compression="zstd",
            # Times differ little from row to row: as differences they take less than half of what they take otherwise.
            use_dictionary=[name for name in types if name not in times],
            column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
        )

    def take(self, chunk: bytes) -> None:
        """Whole lines of CSV; the first line of all has the names."""
        self._held.extend(chunk)
        if len(self._held) >= ROW_GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        """Write what is left, and complete the file."""
        self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        """Write no more: after an error pyarrow would try to complete the file when it deletes the writer."""
        self._writer.is_open = False

    def _write_group(self) -> None:
        self._writer.write_table(table_of(self._held, self._stream))
        del self._held[self._held.index(b"\n") + 1 :]  # the names stay, for the next group


@contextmanager
def writing(file: BinaryIO, stream: Stream) -> Iterator[Take]:
    """Makes Parquet of the CSV that it takes, and completes the file at the end."""
    writer = Writer(file, stream)
    try:
        yield writer.take
        writer.finish()
    finally:
        writer.abandon()


def tables_in(
    path: Path, stream: Stream, window: TimeRange | None = None, device_id: str | None = None
) -> Generator[Table]:
    """The rows of a file, one group at a time: all, or those in [start, end) and of one device. Raises ArchiveError."""
    try:
        with parquet.ParquetFile(path) as file:
            if file.schema_arrow != pa.schema(types_of(stream)):
                raise ArchiveError(f"{path}: its columns are not those of {stream.topic_root}")
            for number in range(file.num_row_groups):
                if window is None:
                    yield file.read_row_group(number)
                elif _is_in(window, file.metadata.row_group(number).column(1).statistics):
                    wanted = (compute.field("timestamp") >= window.start) & (compute.field("timestamp") < window.end)
                    if device_id is not None:
                        wanted &= compute.field(stream.id_key) == device_id
                    yield file.read_row_group(number).filter(wanted)
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise ArchiveError(f"{path}: {error}") from error


def _is_in(window: TimeRange, times: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    """Whether a group may have rows of the window."""
    return times is None or not times.has_min_max or (times.min < window.end and times.max >= window.start)


def digest_of(path: Path, stream: Stream) -> Digest:
    """Count and sums of a file, for which it is read as a whole. Raises ArchiveError."""
    return sums_of(tables_in(path, stream), stream)


def sums_of(tables: Iterable[Table], stream: Stream) -> Digest:
    """Count and sums of tables."""
    columns = [_Sum() for _ in types_of(stream)]
    for table in tables:
        for column, values in zip(columns, table.columns, strict=True):
            column.add(values)
    return Digest.of(stream, [value for column in columns for value in column.values()])


class _Sum:
    """A column that is added up."""

    def __init__(self) -> None:
        self._count = 0
        self._totals: list[Any] = []
        self._extremes: list[Any] = []

    def add(self, values: Any) -> None:  # noqa: ANN401 - pyarrow has no types
        if pa.types.is_timestamp(values.type):
            values = compute.subtract(values.cast(pa.int64()), _UNIX_MICROSECONDS)
        found = len(values) - values.null_count
        if not found:
            return
        self._count += found
        summed = compute.binary_length(values) if pa.types.is_string(values.type) else values
        if pa.types.is_integer(summed.type):  # their sum can be larger than 64 bits
            summed = summed.cast(pa.decimal128(38))
        self._totals.append(compute.sum(summed).as_py())
        self._extremes += compute.min_max(values).as_py().values()

    def values(self) -> tuple[int, Any, Any, Any]:
        if not self._count:
            return 0, None, None, None
        total = sum(self._totals)
        return (
            self._count,
            int(total) if isinstance(total, Decimal) else total,
            min(self._extremes),
            max(self._extremes),
        )


def csv_of(table: Table) -> list[bytes]:
    """Chunks of whole lines, without the names, as COPY writes them."""
    for name in ("timestamp", "receivedAt"):
        table = table.set_column(table.schema.get_field_index(name), name, _text_of(table[name]))
    # "needed" would quote every string. Ids that the decoder accepts need no quotes.
    is_plain = not compute.any(compute.match_substring_regex(table.column(0), _QUOTED)).as_py()
    options = csv.WriteOptions(include_header=False, quoting_style="none" if is_plain else "needed")
    chunks = []
    for begin in range(0, table.num_rows, _LINES):
        chunk = BytesIO()
        csv.write_csv(table.slice(begin, _LINES), chunk, options)
        chunks.append(chunk.getvalue())
    return chunks


def _text_of(times: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    """RFC 3339, with fractions of a second only where there are any."""
    text = compute.strftime(times, format="%Y-%m-%dT%H:%M:%SZ")
    return compute.replace_substring_regex(text, r"\.?0*Z$", "Z")
