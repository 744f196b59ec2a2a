"""How answers look: camelCase, UTC with Z, floats in full."""

from base64 import b64encode
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from ingestd.analytics import FleetEnergy, LiveReading, Mapping, Performance, TimeRange
from ingestd.telemetry import Stream


def answer(body: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=to_json(body), content_type="application/json")


def moment(at: datetime) -> str:
    """RFC 3339 in UTC with Z; fractions only where there are any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def time_range(window: TimeRange) -> dict[str, object]:
    return {"start": moment(window.start), "end": moment(window.end)}


def live(stream: Stream, reading: LiveReading) -> dict[str, object]:
    return {
        stream.id_key: reading.device_id,
        **reading.figures,
        "timestamp": moment(reading.timestamp),
        "receivedAt": moment(reading.received_at),
    }


def performance(found: Performance, threshold: float) -> dict[str, object]:
    return {
        "vehicleId": found.vehicle_id,
        "timeRange": time_range(found.window),
        "energy": _energy(found),
        "battery": {"avgTemperature": found.average_temperature},
        "meters": [
            {
                "meterId": meter.meter_id,
                "from": moment(meter.valid.start),
                "to": moment(meter.valid.end),
                "acConsumed": meter.ac_kwh,
            }
            for meter in found.meters
        ],
        "samples": {"vehicle": found.samples, "meter": found.meter_samples},
        "status": found.status(threshold),
        "threshold": threshold,
    }


def fleet(found: FleetEnergy) -> dict[str, object]:
    return {
        "timeRange": time_range(found.window),
        "energy": _energy(found),
        "devices": {"meters": found.meters, "vehicles": found.vehicles},
    }


def mapping(segment: Mapping) -> dict[str, object]:
    return {
        "vehicleId": segment.vehicle_id,
        "meterId": segment.meter_id,
        "validFrom": moment(segment.valid_from),
        "validTo": moment(segment.valid_to) if segment.valid_to else None,
    }


def dead_letter(letter: Any) -> dict[str, object]:  # noqa: ANN401 - a row of the table
    """The payload as text where it is UTF-8, else as base64, and which of the two."""
    try:
        payload, encoding = letter.payload.decode(), "utf-8"
    except UnicodeDecodeError:
        payload, encoding = b64encode(letter.payload).decode(), "base64"
    return {
        "id": letter.id,
        "receivedAt": moment(letter.received_at),
        "source": letter.source,
        "stream": letter.stream,
        "topic": letter.topic,
        "reason": letter.reason,
        "detail": letter.detail,
        "payload": payload,
        "payloadEncoding": encoding,
    }


def _energy(found: Performance | FleetEnergy) -> dict[str, object]:
    return {
        "acConsumed": found.ac_kwh,
        "dcDelivered": found.dc_kwh,
        "efficiencyRatio": found.efficiency_ratio,
    }
