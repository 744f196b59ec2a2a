"""All routes. Each reads its parameters, asks one of the services, and shapes the answer."""

from typing import Final

from aiohttp import web

from ingestd.http import (
    alerts,
    audit,
    dead_letters,
    device_settings,
    devices,
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
    pages,
    performance,
    series,
    sessions,
    telemetry,
    totals,
)

ROUTES: Final[tuple[web.RouteDef, ...]] = (
    *index.ROUTES,
    *pages.ROUTES,
    *telemetry.ROUTES,
    *performance.ROUTES,
    *live.ROUTES,
    *event_streams.ROUTES,
    *login.ROUTES,
    *series.ROUTES,
    *totals.ROUTES,
    *sessions.ROUTES,
    *fleet.ROUTES,
    *device_settings.ROUTES,
    *forgetting.ROUTES,
    *mappings.ROUTES,
    *devices.ROUTES,
    *exports.ROUTES,
    *dead_letters.ROUTES,
    *alerts.ROUTES,
    *audit.ROUTES,
    *health.ROUTES,
    *metrics.ROUTES,
)
