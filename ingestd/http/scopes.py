"""Which scope a token needs for each route. Where tokens are used, nobody gets at a route that is not here."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from aiohttp import hdrs

from ingestd.model.stream import STREAMS
from ingestd.model.token import Scope

Access: TypeAlias = Scope | Literal["open", "partly-open"]
"""An open route ignores tokens. One that is partly open says less without a token."""

_OPEN: Final = (
    (hdrs.METH_GET, "/asyncapi.json"),
    (hdrs.METH_GET, "/docs"),
    (hdrs.METH_GET, "/livez"),
    (hdrs.METH_GET, "/readyz"),
    (hdrs.METH_GET, "/openapi.json"),
    (hdrs.METH_GET, "/login"),
    (hdrs.METH_GET, "/web/{name}"),
    (hdrs.METH_POST, "/login"),
    (hdrs.METH_POST, "/logout"),
)
_READ: Final = (
    "/",
    "/metrics",
    "/v1/alerts",
    "/v1/analytics/fleet",
    "/v1/analytics/fleet/series",
    "/v1/analytics/fleet/sessions",
    "/v1/analytics/mappings/{vehicleId}",
    "/v1/analytics/performance/{vehicleId}",
    "/v1/analytics/vehicle/{vehicleId}/sessions",
    "/v1/stream",
    *(
        path
        for stream in STREAMS
        for path in (
            f"/v1/{stream.topic_root}",
            f"/v1/export/{stream.topic_root}.csv",
            f"/v1/devices/{stream.name}/{{id}}/settings",
            f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/live",
            f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/series",
            f"/v1/analytics/{stream.name}/{{{stream.id_key}}}/totals",
        )
    ),
)
_INGEST: Final = (
    "/v1/telemetry",
    "/v1/ingest",
    *(
        path
        for stream in STREAMS
        for path in (
            f"/v1/ingest/{stream.name}",
            f"/v1/ingest/{stream.name}/batch",
            f"/v1/ingestion/{stream.name}",
        )
    ),
)
_ADMIN: Final = (
    (hdrs.METH_GET, "/v1/audit"),
    (hdrs.METH_GET, "/v1/dead-letters"),  # payloads of any account
    (hdrs.METH_POST, "/v1/dead-letters/replay"),
    (hdrs.METH_POST, "/v1/dead-letters/{letterId}/replay"),
    (hdrs.METH_POST, "/v1/analytics/mappings"),
    (hdrs.METH_PUT, "/v1/analytics/mappings/{vehicleId}"),
    (hdrs.METH_DELETE, "/v1/analytics/mappings/{vehicleId}"),
    *(
        (method, f"/v1/devices/{stream.name}/{{id}}/settings")
        for stream in STREAMS
        for method in (hdrs.METH_PUT, hdrs.METH_DELETE)
    ),
    *((hdrs.METH_DELETE, f"/v1/devices/{stream.name}/{{id}}") for stream in STREAMS),
)

ACCESS: Final[Mapping[tuple[str, str], Access]] = {
    **dict.fromkeys(_OPEN, "open"),
    (hdrs.METH_GET, "/health"): "partly-open",
    **{(hdrs.METH_GET, path): "read" for path in _READ},
    **{(hdrs.METH_POST, path): "ingest" for path in _INGEST},
    **dict.fromkeys(_ADMIN, "admin"),
}
"""By method and path, as the routes declare them."""
