"""One transaction a message: store it, then acknowledge it.

    python -m bench.peers.one_by_one mqtt://127.0.0.1:1883 postgresql://user@127.0.0.1/ingestd

The tables are those of ingestd. Nothing is lost and nothing is doubled; nothing is looked into either, beyond what
the database does by itself.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg

from bench.peers.subscriber import subscribed

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

CLIENT_ID: Final = "one-by-one"

_METER: Final = """
    INSERT INTO meter_history (meter_id, ts, kwh_consumed_ac, voltage, received_at)
    VALUES (%(meterId)s, %(timestamp)s, %(kwhConsumedAc)s, %(voltage)s, %(received)s)
    ON CONFLICT (meter_id, ts) DO NOTHING
"""
_METER_LIVE: Final = """
    INSERT INTO meter_live AS live (meter_id, ts, kwh_consumed_ac, voltage, received_at)
    VALUES (%(meterId)s, %(timestamp)s, %(kwhConsumedAc)s, %(voltage)s, %(received)s)
    ON CONFLICT (meter_id) DO UPDATE SET
        ts = excluded.ts, kwh_consumed_ac = excluded.kwh_consumed_ac, voltage = excluded.voltage,
        received_at = excluded.received_at
    WHERE live.ts < excluded.ts
"""
_VEHICLE: Final = """
    INSERT INTO vehicle_history (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)
    VALUES (%(vehicleId)s, %(timestamp)s, %(soc)s, %(kwhDeliveredDc)s, %(batteryTemp)s, %(received)s)
    ON CONFLICT (vehicle_id, ts) DO NOTHING
"""
_VEHICLE_LIVE: Final = """
    INSERT INTO vehicle_live AS live (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)
    VALUES (%(vehicleId)s, %(timestamp)s, %(soc)s, %(kwhDeliveredDc)s, %(batteryTemp)s, %(received)s)
    ON CONFLICT (vehicle_id) DO UPDATE SET
        ts = excluded.ts, soc = excluded.soc, kwh_delivered_dc = excluded.kwh_delivered_dc,
        battery_temp = excluded.battery_temp, received_at = excluded.received_at
    WHERE live.ts < excluded.ts
"""


def main(broker_url: str, database_url: str) -> None:
    database = psycopg.connect(database_url, autocommit=True)
    database.prepare_threshold = 0

    def store(client: Client, _: Any, message: MQTTMessage) -> None:  # noqa: ANN401 - paho's signature
        reading = json.loads(message.payload)
        reading["received"] = datetime.now(UTC)
        history, live = (_METER, _METER_LIVE) if message.topic.startswith("meters/") else (_VEHICLE, _VEHICLE_LIVE)
        with database.transaction():
            database.execute(history, reading)
            database.execute(live, reading)
        client.ack(message.mid, message.qos)

    with database, subscribed(broker_url, CLIENT_ID, store) as client:
        client.loop_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
