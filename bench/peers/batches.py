"""A batch a second: collect messages, store them in one transaction, then acknowledge them.

    python -m bench.peers.batches mqtt://127.0.0.1:1883 postgresql://user@127.0.0.1/ingestd

The tables are those of ingestd. Nothing is lost and nothing is doubled while all messages are good; a single bad one
stops it for ever.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import psycopg

from bench.peers.subscriber import subscribed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.client import MQTTMessage

CLIENT_ID: Final = "batches"
INTERVAL_SECONDS: Final = 1.0

_METER: Final = ("meterId", "timestamp", "kwhConsumedAc", "voltage")
_VEHICLE: Final = ("vehicleId", "timestamp", "soc", "kwhDeliveredDc", "batteryTemp")

_PREPARE: Final = """
    CREATE TEMPORARY TABLE staged_meter (LIKE meter_history) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE staged_vehicle (LIKE vehicle_history) ON COMMIT DELETE ROWS
"""
_COPY_METERS: Final = "COPY staged_meter (meter_id, ts, kwh_consumed_ac, voltage, received_at) FROM STDIN"
_COPY_VEHICLES: Final = (
    "COPY staged_vehicle (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at) FROM STDIN"
)
_STORE: Final = (
    "INSERT INTO meter_history SELECT * FROM staged_meter ON CONFLICT (meter_id, ts) DO NOTHING",
    "INSERT INTO vehicle_history SELECT * FROM staged_vehicle ON CONFLICT (vehicle_id, ts) DO NOTHING",
    """
    INSERT INTO meter_live AS live (meter_id, ts, kwh_consumed_ac, voltage, received_at)
    SELECT DISTINCT ON (meter_id) meter_id, ts, kwh_consumed_ac, voltage, received_at
    FROM staged_meter ORDER BY meter_id, ts DESC
    ON CONFLICT (meter_id) DO UPDATE SET
        ts = excluded.ts, kwh_consumed_ac = excluded.kwh_consumed_ac, voltage = excluded.voltage,
        received_at = excluded.received_at
    WHERE live.ts < excluded.ts
    """,
    """
    INSERT INTO vehicle_live AS live (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)
    SELECT DISTINCT ON (vehicle_id) vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at
    FROM staged_vehicle ORDER BY vehicle_id, ts DESC
    ON CONFLICT (vehicle_id) DO UPDATE SET
        ts = excluded.ts, soc = excluded.soc, kwh_delivered_dc = excluded.kwh_delivered_dc,
        battery_temp = excluded.battery_temp, received_at = excluded.received_at
    WHERE live.ts < excluded.ts
    """,
)


def main(broker_url: str, database_url: str) -> None:
    received: SimpleQueue[MQTTMessage] = SimpleQueue()
    with (
        psycopg.connect(database_url) as database,
        subscribed(broker_url, CLIENT_ID, lambda _, __, message: received.put(message)) as client,
    ):
        database.execute(_PREPARE)
        database.commit()
        client.loop_start()
        while True:
            time.sleep(INTERVAL_SECONDS)
            messages = [received.get() for _ in range(received.qsize())]
            store(database, messages)
            for message in messages:
                client.ack(message.mid, message.qos)


def store(database: psycopg.Connection, messages: Sequence[MQTTMessage]) -> None:
    now = datetime.now(UTC)
    with database.transaction(), database.cursor() as cursor:
        for topic, statement, keys in (("meters/", _COPY_METERS, _METER), ("vehicles/", _COPY_VEHICLES, _VEHICLE)):
            with cursor.copy(statement) as copy:
                for message in messages:
                    if message.topic.startswith(topic):
                        reading = json.loads(message.payload)
                        copy.write_row((*(reading[key] for key in keys), now))
        for statement in _STORE:
            cursor.execute(statement)


if __name__ == "__main__":
    main(*sys.argv[1:])
