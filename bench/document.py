"""docs/performance.md and its plot, from the figures of one call."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.plot import Bar, Panel, chart
from bench.report import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FRAME: Final = Path(__file__).with_name("performance.md")
NAMES: Final = {"ingestd": "ingestd", "pipe": "pipe, no guarantee", "batches": "batches", "one-by-one": "one by one"}


def write_document(results: dict[str, Any], folder: Path) -> list[Path]:
    """The page and the plot. A figure that was not measured is marked so, and not plotted."""
    document, plot = folder / "performance.md", folder / "performance.svg"
    document.write_text(FRAME.read_text(encoding="utf-8").format_map(_values(results)), encoding="utf-8")
    plot.write_text(chart(_panels(results)), encoding="utf-8")
    return [document, plot]


def _values(results: dict[str, Any]) -> dict[str, str]:
    """By their names in the frame."""
    machine = results["machine"]
    values: defaultdict[str, str] = defaultdict(lambda: "…", {name: str(fact) for name, fact in machine.items()})
    values["memory"] = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    values["date"] = machine["time"][:10]
    values["command"] = results["command"]
    values["summary"] = "\n".join(f"- {line}" for line in _summary(results))
    for name, describe in SECTIONS.items():
        if _measured(results, name):
            values |= describe(results)
        else:
            values[name] = f"Not measured: {results.get(name, {}).get('error', 'it was not asked for')}."
    return values


def _measured(results: dict[str, Any], name: str) -> bool:
    return name in results and "error" not in results[name]


def _summary(results: dict[str, Any]) -> Iterable[str]:
    """The figures to quote."""
    if _measured(results, "drain"):
        medians = results["drain"]["medians"]
        ingestd, one_by_one = medians["ingestd"], medians["one-by-one"]
        yield (
            f"**{ingestd['messages_per_second']:,.0f} messages a second** from a backlog: {ingestd['of_pipe']:.2f} of "
            f"an unguaranteed pipe, {one_by_one['ingestd_times']:.0f} times one transaction a message, "
            f"{ingestd['own_cpu']:.1f} µs of the daemon's CPU each."
        )
    if _measured(results, "sustained"):
        sustained = results["sustained"]
        yield (
            f"**{sustained['rate']:,.0f} messages a second** held for {sustained['seconds']:.0f} s, with publisher, "
            f"broker and database on the same machine."
        )
    if _measured(results, "latency"):
        latency = results["latency"]
        default, shortest = latency["intervals"][0], latency["intervals"][-1]
        yield (
            f"**{default['p99']:.2f} s** from publishing to the commit (p99, {latency['rate']:,.0f} messages a second) "
            f"with the default flush interval of {default['flush_interval']:g} s; {shortest['p99']:.2f} s with one of "
            f"{shortest['flush_interval']:g} s."
        )


def _drain(results: dict[str, Any]) -> dict[str, str]:
    drain = results["drain"]
    rows = [
        [
            name,
            f"{row['messages_per_second']:,.0f}",
            f"{row['of_pipe']:.3f}",
            f"{row['ingestd_times']:.1f}",
            *(f"{row[cpu]:.1f} µs" for cpu in ("own_cpu", "postgres_cpu", "mosquitto_cpu")),
            f"{row['peak_rss_bytes'] / 2**20:.0f} MiB" if row["peak_rss_bytes"] else "",
        ]
        for name, row in drain["medians"].items()
    ]
    return {
        "drain": markdown(
            ["", "msg/s", "÷ pipe", "ingestd ÷", "own CPU a message", "PostgreSQL", "Mosquitto", "peak RSS"], rows
        ),
        "drain_devices": f"{drain['devices']:,}",
        "drain_messages": f"{drain['messages']['ingestd']:,}",
    }


def _sustained(results: dict[str, Any]) -> dict[str, str]:
    held = results["sustained"]
    row = [
        *(f"{held['rate']:,.0f}", f"{held['seconds']:.0f}", f"{held['backlog']:,}"),
        *(f"{held[cpu]:.1f} µs" for cpu in ("publisher_cpu", "mosquitto_cpu", "postgres_cpu", "own_cpu")),
        f"{held['wal_bytes']:,.0f} bytes",
    ]
    head = ["msg/s", "s", "most in flight", "publisher's CPU a message", "Mosquitto", "PostgreSQL", "ingestd", "WAL"]
    return {"sustained": markdown(head, [row])}


def _cost(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        [
            f"{row['rate']:,.0f}",
            *(f"{row[cpu]:.1f} µs" for cpu in ("own_cpu", "postgres_cpu", "mosquitto_cpu")),
            f"{row['own_core']:.2%}",
        ]
        for row in results["cost"]["rates"]
    ]
    if _measured(results, "drain"):
        flat_out = results["drain"]["medians"]["ingestd"]
        cpu = [f"{flat_out[name]:.1f} µs" for name in ("own_cpu", "postgres_cpu", "mosquitto_cpu")]
        rows.append([f"{flat_out['messages_per_second']:,.0f}", *cpu, ""])
    return {"cost": markdown(["msg/s", "ingestd", "PostgreSQL", "Mosquitto", "ingestd, of one core"], rows)}


def _fleet(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        [
            f"{row['devices']:,}",
            f"{row['messages']:,}",
            f"{row['messages_per_second']:,.0f}",
            *(f"{row[cpu]:.1f} µs" for cpu in ("own_cpu", "postgres_cpu")),
            f"{row['peak_rss_bytes'] / 2**20:.0f} MiB",
        ]
        for row in results["fleet"]["fleets"]
    ]
    head = ["devices", "messages", "msg/s", "ingestd's CPU a message", "PostgreSQL", "peak RSS"]
    return {"fleet": markdown(head, rows)}


def _latency(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        [
            f"{row['flush_interval']:g} s",
            *(f"{row[name]:.3f} s" for name in ("p50", "p99", "highest", "resolution")),
        ]
        for row in results["latency"]["intervals"]
    ]
    return {
        "latency": markdown(["flush interval", "p50", "p99", "max", "resolution"], rows),
        "latency_rate": f"{results['latency']['rate']:,.0f}",
    }


def _reads(results: dict[str, Any]) -> dict[str, str]:
    reads = results["reads"]
    rows = [
        [route, *(_milliseconds(row[name]) for name in ("p50", "p99", "highest")), f"{row['of_bare']:.1f}"]
        for route, row in reads["medians"].items()
    ]
    return {
        "reads": markdown(["route", "p50", "p99", "max", "p50 ÷ bare"], rows),
        "reads_rows": f"{reads['rows']:,}",
        "reads_days": f"{reads['ledger_days']}",
        "reads_asked": f"{reads['asked_per_second']:.0f}",
        "reads_asked_of_fleet": f"{reads['asked_of_fleet_per_second']:.0f}",
        "reads_ingested": f"{reads['ingested_per_second']:.0f}",
    }


def _growth(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        [
            str(row["days"]),
            f"{row['rows']:,}",
            *(f"{row[size] / 2**20:,.0f} MiB" for size in ("history_bytes", "index_bytes", "ledger_bytes")),
            *(
                figure
                for route in ("live", "performance")
                for figure in (
                    f"{_milliseconds(row[route]['p50'])} / {_milliseconds(row[route]['p99'])}",
                    f"{row[route]['of_a_day']:.2f}",
                )
            ),
        ]
        for row in results["growth"]["lengths"]
    ]
    head = ["days", "rows", "history", "its indexes", "ledger"]
    for route in ("live", "performance"):
        head += [f"{route}, p50 / p99", "p99 ÷ a day's"]
    return {"growth": markdown(head, rows), "growth_devices": f"{results['growth']['devices']:,}"}


def _closing(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        [
            f"{row['devices']:,}",
            f"{row['readings']:,}",
            f"{row['seconds']:.2f} s",
            *(f"{row[cpu]:.1f} µs" for cpu in ("own_cpu", "postgres_cpu")),
        ]
        for row in results["closing"]["fleets"]
    ]
    return {"closing": markdown(["devices", "readings", "took", "ingestd's CPU a reading", "PostgreSQL"], rows)}


def _connections(results: dict[str, Any]) -> dict[str, str]:
    connections = results["connections"]
    row = [f"{connections['connections']:,}", f"{connections['broker_bytes_each']:,.0f} bytes"]
    return {"connections": markdown(["connections", "memory each"], [row])}


SECTIONS: Final[dict[str, Callable[[dict[str, Any]], dict[str, str]]]] = {
    "drain": _drain,
    "sustained": _sustained,
    "cost": _cost,
    "fleet": _fleet,
    "latency": _latency,
    "reads": _reads,
    "growth": _growth,
    "closing": _closing,
    "connections": _connections,
}


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _panels(results: dict[str, Any]) -> Iterable[Panel]:
    if _measured(results, "drain"):
        medians = results["drain"]["medians"]
        yield Panel(
            title="Drain: messages a second",
            bars=[
                Bar(
                    label=NAMES[name],
                    value=row["messages_per_second"],
                    text=f"{row['messages_per_second']:,.0f}",
                    ours=name == "ingestd",
                )
                for name, row in medians.items()
            ],
        )
        yield Panel(
            title="Drain: CPU time a message without the servers'",
            bars=[
                Bar(label=NAMES[name], value=row["own_cpu"], text=f"{row['own_cpu']:.1f} µs", ours=name == "ingestd")
                for name, row in medians.items()
            ],
        )
    if _measured(results, "fleet"):
        yield Panel(
            title="Fleet: the daemon's CPU time a message",
            bars=[
                Bar(label=f"{row['devices']:,} devices", value=row["own_cpu"], text=f"{row['own_cpu']:.1f} µs")
                for row in results["fleet"]["fleets"]
            ],
        )
    if _measured(results, "latency"):
        yield Panel(
            title="Latency: publish to commit, p99, by flush interval",
            bars=[
                Bar(label=f"{row['flush_interval']:g} s", value=row["p99"], text=f"{row['p99']:.3f} s")
                for row in results["latency"]["intervals"]
            ],
        )
    if _measured(results, "growth"):
        yield Panel(
            title="Growth: performance, p99, by days of history",
            bars=[
                Bar(
                    label=f"{row['days']}",
                    value=row["performance"]["p99"],
                    text=_milliseconds(row["performance"]["p99"]),
                )
                for row in results["growth"]["lengths"]
            ],
        )
