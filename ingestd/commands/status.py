"""`ingestd status`: how the daemon does, and what the database knows of it."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from ingestd.commands.daemon_client import DaemonClient, UnreachableError
from ingestd.commands.daemon_status import DaemonStatus, daemon_status, rates
from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.config import TOKEN_VARIABLE, Settings
from ingestd.errors import ConfigError, StoreError
from ingestd.printable import printable
from ingestd.sources import refuse_readable
from ingestd.store.pool import Pool
from ingestd.store.status import DatabaseStatus, Talkers, database_status

SECONDS: Final = 5.0
RATE_SECONDS: Final = 1.0
"""Rates are counted over this time."""
WATCH_SECONDS: Final = 2.0
_DOWN: Final = "down"
_CONNECTED: Final = "connected"


@click.command(short_help="Show how daemon and database do.")
@click.option("--watch", is_flag=True, help=f"Show it every {WATCH_SECONDS:g} s until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; with --watch one a line.")
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="A file with a token (scope read).")
@click.pass_context
def status(context: click.Context, *, watch: bool, as_json: bool, token_file: Path | None) -> None:
    """Show health, rates, lag, buffer, ledger, alerts, dead letters, and which devices send most.

    It asks the daemon of these settings, and the database. Each is shown without the other; if one of them is down, the
    exit status is 1 (not with --watch). Where the API uses tokens,
    the token is in INGESTD_TOKEN or in a file; without one, the daemon says whether it works and nothing else.

    \b
    ingestd status || echo "the daemon or the database is down"
    ingestd status --watch
    ingestd status --json | jq .rates
    ingestd status --token-file ~/.ingestd-token
    """
    settings = settings_of(context)
    daemon = DaemonClient(settings, seconds=SECONDS, token=_token(token_file))
    try:
        found = run_to_end(lambda: _show(settings, daemon, watch=watch, as_json=as_json))
    except KeyboardInterrupt:  # the end of --watch
        click.echo()
        return
    if found["daemon"]["status"] == _DOWN or found["database"] != _CONNECTED:
        context.exit(1)


def _token(file: Path | None) -> str | None:
    """Raises ConfigError."""
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
    else:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no text"
            raise ConfigError(f"--token-file: {file} cannot be read: {reason}") from error
        refuse_readable(file, name="--token-file")
    if token and not (token.isascii() and token.isprintable()):
        raise ConfigError("the token is no token of ingestd")
    return token or None


async def _show(settings: Settings, daemon: DaemonClient, *, watch: bool, as_json: bool) -> dict[str, Any]:
    """Returns what it has shown; with `watch` never."""
    before, before_at = await _ask(daemon), time.monotonic()
    while True:
        await asyncio.sleep(WATCH_SECONDS if watch else RATE_SECONDS)
        now, now_at = await _ask(daemon), time.monotonic()
        counted = rates(before, now, seconds=now_at - before_at)
        found = _described(daemon.url, now, counted, await _ask_database(settings))
        if watch and not as_json:
            click.clear()
        click.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))
        if not watch:
            return found
        before, before_at = now, now_at


async def _ask(daemon: DaemonClient) -> DaemonStatus:
    try:
        return await asyncio.to_thread(daemon_status, daemon)
    except UnreachableError as error:
        return DaemonStatus(status=_DOWN, detail=str(error))


async def _ask_database(settings: Settings) -> DatabaseStatus | str:
    """Or why it does not answer."""
    try:
        url = settings.database_url.get_secret_value()
        async with Pool(url, application_name="ingestd-status", seconds=SECONDS) as pool:
            return await database_status(pool)
    except StoreError as error:
        return str(error)


def _described(
    url: str, daemon: DaemonStatus, counted: dict[str, float] | None, database: DatabaseStatus | str
) -> dict[str, Any]:
    known = database if isinstance(database, DatabaseStatus) else None
    return {
        "at": _time(datetime.now(UTC)),
        "daemon": {"url": url, "status": daemon.status, "detail": daemon.detail},
        "health": daemon.health,
        "rates": counted,
        "inFlight": daemon.in_flight,
        "database": _CONNECTED if known else database,
        "ledgerMadeUntil": known and {name: at and _time(at) for name, at in known.made_until.items()},
        "activeAlerts": known and dict(known.alerts),
        "deadLettersOfLastHour": known and dict(known.dead_letters),
        "topTalkers": known and {name: _talkers(talkers) for name, talkers in known.talkers.items()},
    }


def _time(at: datetime) -> str:
    return f"{at:%FT%TZ}"


def _talkers(talkers: Talkers) -> dict[str, Any]:
    return {"readings": dict(talkers.readings), "partial": talkers.is_partial}


def _lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    daemon, health, counted = found["daemon"], found["health"], found["rates"]
    lines = [f"daemon         {daemon['status']}  {daemon['url']}"]
    if daemon["detail"]:
        lines.append(f"               {daemon['detail']}")
    if health:
        age = health["lastCommitAgeSeconds"]
        lines += [
            f"broker         {health['broker']}",
            f"buffer         {health['bufferedMessages']} messages",
            f"last commit    {'none yet' if age is None else f'{age:.1f} s ago'}",
        ]
        lines += [_session_line(session) for session in health["sessions"]]
        if health["replica"]:
            lag = health["replicaLagSeconds"]
            lines.append(f"replica        {health['replica']}" + ("" if lag is None else f", {lag:.1f} s behind"))
        if health["archive"]:
            lines.append(f"archive        {health['archive']}")
        if health["lastErrors"]:
            last = health["lastErrors"][0]
            lines.append(f"last error     {last['at']} {last['event']}: {last['detail']}")
    if counted:
        lines.append("rates          " + ", ".join(f"{rate:.1f} {name}/s" for name, rate in counted.items()))
    lines.append(f"database       {found['database']}")
    if found["topTalkers"] is not None:
        lines += [f"ledger         {name} {_until(at)}" for name, at in found["ledgerMadeUntil"].items()]
        lines.append("alerts         " + (_counts(found["activeAlerts"]) or "none active"))
        lines.append("dead letters   " + (_counts(found["deadLettersOfLastHour"]) or "none") + " in the last hour")
        lines += [_talkers_line(name, talkers) for name, talkers in found["topTalkers"].items()]
    return [printable(line) for line in lines]


def _session_line(session: dict[str, Any]) -> str:
    parts = [f"held by {session['holder']}"]
    if session["reason"]:
        parts.append(session["reason"])
    if session["inFlight"]:
        parts.append(f"{session['inFlight']} in flight")
    if session["freeSeconds"]:
        parts.append(f"free for {session['freeSeconds']:.0f} s")
    if session["left"]:
        parts.append("left: run `ingestd leave`")
    return f"session        {session['session']}: {', '.join(parts)}"


def _until(at: str | None) -> str:
    return f"made until {at}" if at else "not begun"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _talkers_line(name: str, talkers: dict[str, Any]) -> str:
    devices = ", ".join(f"{device} {count}" for device, count in talkers["readings"].items())
    partly = " (of a part of the readings)" if talkers["partial"] else ""
    return f"{f'top {name}s':<15}{devices or 'no reading'} in the last 10 min{partly}"
