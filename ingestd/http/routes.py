"""All operations. Each reads its parameters, asks one of the services, and shapes the answer."""

from typing import Final

from ingestd.http import (
    alerts,
    audit,
    dead_letters,
    device_settings,
    devices,
    documents,
    event_streams,
    exports,
    fleet,
    forgetting,
    health,
    index,
    live,
    login,
    mappings,
    metrics,
    performance,
    series,
    sessions,
    telemetry,
    totals,
)
from ingestd.http.operations import Operation

OPERATIONS: Final[tuple[Operation, ...]] = (
    *index.OPERATIONS,
    *telemetry.OPERATIONS,
    *performance.OPERATIONS,
    *live.OPERATIONS,
    *event_streams.OPERATIONS,
    *login.OPERATIONS,
    *series.OPERATIONS,
    *totals.OPERATIONS,
    *sessions.OPERATIONS,
    *fleet.OPERATIONS,
    *device_settings.OPERATIONS,
    *forgetting.OPERATIONS,
    *mappings.OPERATIONS,
    *devices.OPERATIONS,
    *exports.OPERATIONS,
    *dead_letters.OPERATIONS,
    *alerts.OPERATIONS,
    *audit.OPERATIONS,
    *health.OPERATIONS,
    *metrics.OPERATIONS,
    *documents.OPERATIONS,
)
