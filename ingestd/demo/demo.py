"""`ingestd demo`: the whole system on this machine, until Ctrl-C. It leaves no process and no file behind."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Final

import click
from pydantic import SecretStr
from pydantic_core import from_json, to_json

from ingestd.config import Settings
from ingestd.daemon import Daemon
from ingestd.demo.fleet import Fleet, faults
from ingestd.demo.process import LOOPBACK
from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres
from ingestd.errors import IngestdError
from ingestd.mqtt.publisher import Publisher, connected

DEVICES: Final = 20
"""Meters, and as many vehicles; the first vehicle charges badly. A further meter reports once only."""
PAST: Final = timedelta(hours=24)
PAST_INTERVAL: Final = timedelta(minutes=1)
LIVE_INTERVAL: Final = timedelta(seconds=5)
OFFLINE_AFTER: Final = timedelta(seconds=30)
ALERT_AFTER: Final = timedelta(seconds=20)
"""So that the alert of the silent meter is there within about a minute."""
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def private_servers(*, http_port: int) -> Iterator[Settings]:
    """A database and a broker that live as long as the context; yields the settings for a daemon between them.

    Raises ServerError. Signals are ignored while they are taken down, so that nothing is left behind.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    click.echo("Starting a private PostgreSQL and a private Mosquitto ...")
    with PrivatePostgres() as postgres, PrivateMosquitto() as mosquitto:
        try:
            yield Settings(
                mqtt_url=mosquitto.url,
                mqtt_client_id="ingestd-demo",
                database_url=SecretStr(postgres.dsn()),
                http_host=LOOPBACK,
                http_port=http_port,
                offline_after=OFFLINE_AFTER,
                alert_min_duration=ALERT_AFTER,
            )
        finally:
            for number in _STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)


async def show(settings: Settings) -> None:
    """Run the daemon and a fleet around it until Ctrl-C; raises IngestdError."""
    stop = asyncio.Event()
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    daemon = Daemon(settings)
    async with asyncio.TaskGroup() as tasks:
        living = tasks.create_task(_live(daemon, settings), name="demo-fleet")
        await daemon.run(stop=stop)
        living.cancel()
    click.echo("Gone, with everything it had started.")


async def _live(daemon: Daemon, settings: Settings) -> None:
    await daemon.ready.wait()
    fleet = Fleet(meters=DEVICES, vehicles=DEVICES, one_is_bad=True)
    # A reading's timestamp has milliseconds.
    started = datetime.now(UTC).replace(microsecond=0)
    await asyncio.to_thread(_map_vehicles, daemon.http_port, fleet, started - PAST - PAST_INTERVAL)
    async with connected(settings, client_id="demo-fleet") as publisher:
        await publisher.publish(faults(started, number=DEVICES + 1))
        await _publish_past(publisher, fleet, started)
        await _all_stored(daemon.http_port, fleet.vehicles[-1].vehicle_id, started)
        click.echo(_invitation(settings, daemon.http_port, fleet))
        last = started
        while True:
            await asyncio.sleep(LIVE_INTERVAL.total_seconds())
            now = datetime.now(UTC)
            await publisher.publish(fleet.readings(now, now - last))
            last = now


def _map_vehicles(port: int, fleet: Fleet, valid_from: datetime) -> None:
    """Map vehicle n to meter n, by the HTTP API."""
    api = HTTPConnection(LOOPBACK, port, timeout=10)
    for vehicle, charger in zip(fleet.vehicles, fleet.chargers, strict=True):
        mapping = {
            "vehicleId": vehicle.vehicle_id,
            "meterId": charger.meter_id,
            "validFrom": valid_from.isoformat(),
        }
        api.request("POST", "/v1/analytics/mappings", to_json(mapping), {"Content-Type": "application/json"})
        answer = api.getresponse()
        body = answer.read()
        if answer.status != HTTPStatus.CREATED:
            raise IngestdError(f"mapping {vehicle.vehicle_id} was refused: {body.decode()}")
    api.close()


async def _publish_past(publisher: Publisher, fleet: Fleet, until: datetime) -> None:
    readings = 2 * DEVICES * (PAST // PAST_INTERVAL)
    label = f"Publishing the last {PAST // timedelta(hours=1)} hours: {readings} readings"
    with click.progressbar(length=readings, label=label, update_min_steps=500) as bar:
        await publisher.publish(fleet.past(until=until, span=PAST, interval=PAST_INTERVAL), progress=bar.update)


async def _all_stored(port: int, last_vehicle: str, last: datetime) -> None:
    """Wait until the last reading of the past is stored. Those that were sent before it are stored then, too."""
    while (  # noqa: ASYNC110 - a demonstration may poll
        newest := await asyncio.to_thread(_newest_of, port, last_vehicle)
    ) is None or newest < last:
        await asyncio.sleep(0.02)


def _newest_of(port: int, vehicle_id: str) -> datetime | None:
    """The time of its newest reading; None before the first."""
    api = HTTPConnection(LOOPBACK, port, timeout=10)
    api.request("GET", f"/v1/analytics/vehicle/{vehicle_id}/live")
    answer = api.getresponse()
    body = from_json(answer.read())
    api.close()
    return datetime.fromisoformat(body["timestamp"]) if answer.status == HTTPStatus.OK else None


def _invitation(settings: Settings, port: int, fleet: Fleet) -> str:
    address = f"http://{LOOPBACK}:{port}"
    bad, meter = fleet.vehicles[0].vehicle_id, fleet.chargers[0].meter_id
    # The shell puts in the time, so that each reading is a new one.
    example = """'{"meterId":"meter-mine","kwhConsumedAc":0.42,"voltage":231.5,"timestamp":"'$(date -u +%FT%TZ)'"}'"""
    return f"""
ingestd is at {address}, with {DEVICES} meters and {DEVICES} vehicles that report every {LIVE_INTERVAL.seconds} s.

{bad} charges badly:
  curl {address}/v1/analytics/performance/{bad}
What its meter said last:
  curl {address}/v1/analytics/meter/{meter}/live
Send a reading of your own, by HTTP (the answer comes after the commit) or by MQTT:
  curl {address}/v1/telemetry -H 'Content-Type: application/json' -d {example}
  mosquitto_pub -L {settings.mqtt_url}/meters/meter-mine/telemetry -q 1 -m {example}
For `ingestd status`, `ingestd export` and other commands in another terminal:
  export INGESTD_HTTP_PORT={port} INGESTD_MQTT_URL={settings.mqtt_url}
  export INGESTD_DATABASE_URL={settings.database_url.get_secret_value()}

A further meter is silent: its alert comes within a minute. One message was bad: it is a dead letter.
Ctrl-C ends it and leaves nothing behind.
"""
