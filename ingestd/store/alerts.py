"""The tables of alerts, and the devices for which an alert's condition may hold."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic_core import to_json

from ingestd.model.alert import BATTERY, BATTERY_FRESH, RETIRED, SILENT, Alert, AlertFilter, Change, Found
from ingestd.model.observations import battery, silence
from ingestd.model.stream import STREAMS, Stream
from ingestd.store import queries
from ingestd.store.pool import Pool

_SOURCES: Final = queries.load("alerts.sql")
_SQL: Final = queries.all_ready(_SOURCES)
_OF_STREAM: Final = queries.of_streams(
    {name: _SOURCES[name] for name in ("silent_devices", "silent_count", "heard_devices")}, STREAMS
)

_COLUMNS: Final = tuple(field.name for field in fields(Alert))

PAGE: Final = 500


class Alerts:
    """The tables of alerts. Every method raises StoreError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take_watch(self, task: str, *, holder: str, now: datetime, lease: timedelta) -> datetime | None:
        """Take a task over or renew it. Returns since when it is done without a gap; None if another daemon does it."""
        rows = await self._pool.fetch(_SQL["take_watch"], {"task": task, "holder": holder, "now": now, "lease": lease})
        return rows[0].watched_since if rows else None

    async def silent(self, stream: Stream, *, now: datetime, offline_after: timedelta, limit: int) -> Found:
        """Devices with an open alert, then devices that have been silent for too long, up to `limit` in all.

        `offline_after` is for devices without a setting of their own.
        """
        kind = SILENT[stream.name]
        parameters = {
            "kind": kind,
            "now": now,
            "offline_after": offline_after,
            "retired": RETIRED,
            "limit": limit,
        }
        rows = await self._pool.fetch(_OF_STREAM[stream]["silent_devices"], parameters)
        return Found(
            seen={
                row.subject: silence(kind, row.subject, heard_at=row.heard_at, bound=row.bound, now=now) for row in rows
            },
            others=await self._others(_OF_STREAM[stream]["silent_count"], parameters, rows)
            if len(rows) >= limit
            else 0,
        )

    async def hot(self, *, bound: float, now: datetime, limit: int) -> Found:
        """Vehicles with an open alert, then vehicles with a battery above `bound` (°C), up to `limit` in all.

        A vehicle without a recent temperature has None.
        """
        parameters = {"kind": BATTERY, "now": now, "bound": bound, "fresh": BATTERY_FRESH, "limit": limit}
        rows = await self._pool.fetch(_SQL["hot_batteries"], parameters)
        return Found(
            seen={
                row.subject: None if row.celsius is None else battery(row.subject, celsius=row.celsius, bound=bound)
                for row in rows
            },
            others=await self._others(_SQL["hot_count"], parameters, rows) if len(rows) >= limit else 0,
        )

    async def _others(self, count: queries.Statement, parameters: Mapping[str, object], rows: Sequence[Any]) -> int:
        """The number of counted devices that are not among the rows, which were read just before."""
        ((devices,),) = await self._pool.fetch(count, parameters)
        return max(int(devices) - sum(not row.has_alert for row in rows), 0)

    async def open(self, kind: str) -> dict[str, Alert]:
        """The pending and active alerts of a kind, by subject."""
        rows = await self._pool.fetch(_SQL["open_alerts"], {"kind": kind})
        return {row.subject: _alert(row) for row in rows}

    async def retired(self, stream: Stream, kinds: Sequence[str], *, now: datetime) -> list[Alert]:
        """The open alerts of devices that nothing is expected of any more."""
        alerts = [alert for kind in kinds for alert in (await self.open(kind)).values()]
        subjects = [alert.subject for alert in alerts]
        parameters = {"subjects": subjects, "now": now, "retired": RETIRED}
        heard = {row.id for row in await self._pool.fetch(_OF_STREAM[stream]["heard_devices"], parameters)}
        return [alert for alert in alerts if alert.subject not in heard]

    async def save(self, changes: Sequence[Change], *, channels: Sequence[str]) -> None:
        """Store all changes or none. Each change of state goes into the outbox of every channel."""
        if changes:
            await self._pool.fetch(
                _SQL["save_alerts"],
                {"changes": to_json([_record(change) for change in changes]).decode(), "channels": list(channels)},
            )

    async def page(self, wanted: AlertFilter, *, limit: int, before: int | None = None) -> list[Alert]:
        """At most `limit` active and cleared alerts, the newest first, with ids below `before`."""
        rows = await self._pool.fetch(_SQL["page_alerts"], {**asdict(wanted), "limit": limit, "before": before})
        return [_alert(row) for row in rows]

    async def active(self) -> dict[str, int]:
        """The number of active alerts by kind; kinds without any are left out."""
        return {row.kind: row.active for row in await self._pool.fetch(_SQL["active_alerts"], {})}

    async def purge(self, *, until: datetime) -> None:
        """Delete alerts that were cleared before `until`."""
        while len(await self._pool.fetch(_SQL["purge_alerts"], {"until": until, "limit": PAGE})) == PAGE:
            pass

    async def undelivered(self, channel: str, *, limit: int) -> list[Alert]:
        """Alerts whose change the channel has not delivered yet, in the order of delivery."""
        rows = await self._pool.fetch(_SQL["undelivered_alerts"], {"channel": channel, "limit": limit})
        return [_alert(row) for row in rows]

    async def delivered(self, channel: str, alerts: Sequence[Alert]) -> None:
        """Remove delivered alerts from the channel's outbox, unless their state has changed since."""
        parameters = {
            "channel": channel,
            "ids": [alert.id for alert in alerts],
            "states": [alert.state for alert in alerts],
        }
        await self._pool.fetch(_SQL["delivered_alerts"], parameters)

    async def deliver_again(self, channel: str) -> None:
        """Put all active alerts into the channel's outbox again, because the channel has lost them."""
        await self._pool.fetch(_SQL["deliver_again"], {"channel": channel})


def _alert(row: Any) -> Alert:  # noqa: ANN401 - psycopg makes the namedtuple's class at run time
    return Alert(**row._asdict())


def _record(change: Change) -> dict[str, object]:
    before, after = change
    kept = after or before
    assert kept is not None  # noqa: S101 - one of them is there
    return {
        **{name: getattr(kept, name) for name in _COLUMNS},  # asdict takes some thirty times as long
        "gone": after is None,
        "state_changed": before is not None and after is not None and before.state != after.state,
    }
