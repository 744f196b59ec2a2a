"""How answers look: camelCase, UTC with Z, floats in full."""

from base64 import b64encode
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, get_args

from aiohttp import web
from pydantic_core import to_json

from ingestd.model.answers import ChargingSession, FleetEnergy, FleetPoint, Performance, Point, Total
from ingestd.model.device import Device, LiveReading
from ingestd.model.efficiency import Compared, Status
from ingestd.model.periods import TimeRange
from ingestd.model.stream import Stream


def answer(body: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=to_json(body), content_type="application/json")


def moment(at: datetime) -> str:
    """RFC 3339 in UTC with Z; fractions only where there are any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def time_range(window: TimeRange) -> dict[str, object]:
    return {"start": moment(window.start), "end": moment(window.end)}


def reason(text: str | None) -> dict[str, object]:
    """Why something is null, or missing; nothing where all is told."""
    return {} if text is None else {"reason": text}


def live(stream: Stream, reading: LiveReading) -> dict[str, object]:
    return {
        stream.id_key: reading.device_id,
        **reading.figures,
        "timestamp": moment(reading.timestamp),
        "receivedAt": moment(reading.received_at),
    }


def performance(found: Performance) -> dict[str, object]:
    return {
        "vehicleId": found.vehicle_id,
        "timeRange": time_range(found.window),
        "energy": _energy(found),
        "compared": found.compared and _compared(found.compared),
        "battery": {"avgTemperature": found.average_temperature},
        "meters": [
            {
                "meterId": meter.meter_id,
                "from": moment(meter.valid.start),
                "to": moment(meter.valid.end),
                "acConsumed": meter.ac_kwh,
                "shared": meter.shared,
            }
            for meter in found.meters
        ],
        "samples": {"vehicle": found.samples, "meter": found.meter_samples},
        "coverage": found.coverage,
        "gaps": {"count": found.gaps, "longestSeconds": found.longest_gap},
        "resets": found.resets,
        "excluded": found.excluded,
        "status": found.judgement.status,
        "reason": found.judgement.reason,
        "threshold": found.threshold,
    }


def fleet(found: FleetEnergy) -> dict[str, object]:
    """`asOf`: readings stored later are not in it."""
    mapped = found.mapped
    return {
        "asOf": moment(found.as_of),
        "timeRange": time_range(found.window),
        "energy": _energy(found),
        "devices": {"meters": found.meters, "vehicles": found.vehicles},
        "mapped": {
            "acConsumed": mapped.all_ac,
            "dcDelivered": mapped.all_dc,
            "efficiencyRatio": found.mapped_ratio,
            "lossKwh": mapped.all_ac - mapped.all_dc,
            "compared": _compared(mapped),
        },
        "vehicles": {status: found.statuses.get(status, 0) for status in get_args(Status)},
        "worst": [
            {
                "vehicleId": vehicle.vehicle_id,
                "efficiencyRatio": vehicle.efficiency_ratio,
                "acConsumed": vehicle.ac_kwh,
                "dcDelivered": vehicle.dc_kwh,
            }
            for vehicle in found.worst
        ],
    }


def point(stream: Stream, found: Point) -> dict[str, object]:
    return {
        "start": moment(found.start),
        "kwh": found.kwh,
        "kw": found.kw,
        **({"soc": found.soc} if "soc" in stream.columns else {}),
        **({stream.averaged_key: found.averaged} if stream.averaged_key else {}),
        "samples": found.samples,
    }


def fleet_point(found: FleetPoint) -> dict[str, object]:
    return {"start": moment(found.start), "acConsumed": found.ac_kwh, "dcDelivered": found.dc_kwh}


def total(found: Total) -> dict[str, object]:
    return {**time_range(found.within), "date": found.label, "kwh": found.kwh, "samples": found.samples}


def session(found: ChargingSession) -> dict[str, object]:
    return {
        "start": moment(found.start),
        "end": moment(found.end),
        "open": found.open,
        **_energy(found),
        "lossKwh": found.loss_kwh,
        "socFrom": found.soc_from,
        "socTo": found.soc_to,
        "maxTemperature": found.max_temperature,
        "samples": found.samples,
    }


def device(stream: Stream, found: Device) -> dict[str, object]:
    return {
        stream.id_key: found.newest.device_id,
        **found.newest.figures,
        "timestamp": moment(found.newest.timestamp),
        "lastSeen": moment(found.newest.received_at),
        "online": found.online,
        **({"efficiencyRatio": found.efficiency_ratio, "status": found.status} if found.status else {}),
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


def _energy(found: Performance | FleetEnergy | ChargingSession) -> dict[str, object]:
    return {
        "acConsumed": found.ac_kwh,
        "dcDelivered": found.dc_kwh,
        "efficiencyRatio": found.efficiency_ratio,
    }


def _compared(found: Compared) -> dict[str, object]:
    return {"acConsumed": found.ac, "dcDelivered": found.dc, "share": found.share}
