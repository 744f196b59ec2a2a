"""The least that a route with a query can cost: aiohttp, a pool, one row by its key, JSON.

    python -m bench.peers.bare_route 8080 postgresql://user@127.0.0.1/ingestd

then `GET /EV-00001` answers with the live row of the vehicle.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import uvloop
from aiohttp import web
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECTIONS: Final = 4
_LIVE: Final = """
    SELECT vehicle_id AS "vehicleId", soc, kwh_delivered_dc AS "kwhDeliveredDc", battery_temp AS "batteryTemp",
        to_char(ts, 'YYYY-MM-DD"T"HH24:MI:SS.USZ') AS "timestamp"
    FROM vehicle_live
    WHERE vehicle_id = %s
"""


def main(port: str, database_url: str) -> None:
    pool = AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=CONNECTIONS,
        open=False,
        kwargs={"autocommit": True, "row_factory": dict_row},
    )

    async def opened(_: web.Application) -> AsyncIterator[None]:
        async with pool:
            yield

    async def live(request: web.Request) -> web.Response:
        async with pool.connection() as connection:
            rows = await connection.execute(_LIVE, [request.match_info["vehicleId"]])
            return web.json_response(await rows.fetchone())

    app = web.Application()
    app.cleanup_ctx.append(opened)
    app.router.add_get("/{vehicleId}", live)
    # run_app ends with 0 on SIGTERM.
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main(*sys.argv[1:])
