"""What one device did, where history is past its retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from ingestd.model.energy import QUARTER
from ingestd.model.stream import METER
from ingestd.model.timestamps import to_microseconds
from tests.support.energy import Sample
from tests.support.harness import opened

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("every", [MINUTE, HOUR], ids=["by the minute", "hourly"])
async def test_of_a_device_that_fell_silent_the_ledger_tells_all_when_history_is_gone(
    database_url: str, every: timedelta
) -> None:
    """Its last rows wait for what follows, for ever: but nothing that is left can tell more than they do."""
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 20 * HOUR
    last = begin + 5 * HOUR
    async with opened(database_url) as harness:
        count = (last - begin) // every
        await harness.write(
            meters=[Sample(device="m", at=last - number * every, interval=0.5) for number in range(count + 1)]
        )
        await harness.close(datetime.now(UTC))
        expected = 0.5 * count

        for history in (None, 3 * HOUR):
            if history is not None:
                with psycopg.connect(harness.url, autocommit=True) as connection:
                    connection.execute("DELETE FROM meter_history")
            async with harness.kept(history).now() as snapshot:
                start, end = to_microseconds(begin), to_microseconds(last)
                found = await snapshot.device(METER, "m").energy(start, end + QUARTER)
                assert pytest.approx(expected) == found.total(start, end).kwh
