"""What goes into a file of the archive is what is read back."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.archive.parquet import csv_of, digest_of, sums_of, table_of, tables_in, writing
from ingestd.model.stream import METER

NAMES = [METER.id_key, "timestamp", *METER.columns, "receivedAt"]
ids = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1)
figures = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=zones)  # noqa: DTZ001 - hypothesis adds the zone
rows = st.lists(st.tuples(ids, times, *[figures] * len(METER.columns), times), max_size=20)


def line(row: tuple[object, ...]) -> list[str]:
    """As COPY writes it."""
    return [
        value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if isinstance(value, datetime)
        else ""
        if value is None
        else str(value)
        for value in row
    ]


@settings(deadline=None, max_examples=100)
@given(rows=rows)
def test_what_goes_in_is_what_is_read_back(rows: list[tuple[object, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([NAMES, *map(line, rows)])
    with TemporaryDirectory() as directory:
        path = Path(directory) / "meters.parquet"
        with path.open("wb") as file, writing(file, METER) as take:
            take(text.getvalue().encode())

        found = list(tables_in(path, METER))

        assert rows == [tuple(reading.values()) for table in found for reading in table.to_pylist()]
        assert digest_of(path, METER).agrees_with(sums_of([table_of(text.getvalue().encode(), METER)], METER))
    again = b"".join(chunk for table in found for chunk in csv_of(table))
    head = text.getvalue().splitlines(keepends=True)[0].encode()
    assert rows == [tuple(reading.values()) for reading in table_of(head + again, METER).to_pylist()]
