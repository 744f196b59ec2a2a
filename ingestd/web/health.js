// Health of the daemon: whether readings flow, the ledger of messages, flush times, and how far the energy is known.

import { health, metrics, total } from "/web/api.js";
import { empty, facts, fill, h, section, table } from "/web/dom.js";
import * as format from "/web/format.js";

export function healthView(root) {
  const [state, messages, sessions, work, errors] = [1, 2, 3, 4, 5].map(() => h("div", {}, empty("Loading …")));
  root.append(
    h("h1", {}, "Health"),
    h("div", { class: "columns" }, section("State", state), section("Messages since the start", messages)),
    section("Sessions of the broker", sessions),
    section("Work", work),
    section("Last errors", errors),
  );
  return async () => {
    const now = await health();
    fill(state, stateOf(now));
    fill(sessions, sessionTable(now.sessions ?? []));
    fill(errors, errorTable(now.lastErrors ?? []));
    const samples = await metrics();
    fill(messages, ledger(samples));
    fill(work, workOf(samples));
  };
}

function stateOf(now) {
  return facts([
    ["State", h("strong", { class: now.status === "healthy" ? "good" : "bad" }, now.status)],
    ["Database", now.database],
    ["Broker", now.broker],
    ["Newest commit", now.lastCommitAgeSeconds === null || now.lastCommitAgeSeconds === undefined ? "none yet" : `${format.duration(now.lastCommitAgeSeconds)} ago`],
    ["Messages in the buffer", now.bufferedMessages === undefined ? "–" : format.count(now.bufferedMessages)],
    ["Stopping", now.stopping ? "yes" : "no"],
  ]);
}

function sessionTable(sessions) {
  if (!sessions.length) return empty("Not shown without a token.");
  return table("Who holds which session", [
    { title: "Session", value: (row) => row.session },
    { title: "Held by", value: (row) => row.holder === "nobody" ? h("span", { class: "badge bad" }, "nobody") : row.holder },
    { title: "State", wrap: true, value: sessionState },
    { title: "In flight", number: true, value: (row) => format.count(row.inFlight) },
  ], sessions);
}

function sessionState(row) {
  if (row.holder === "nobody") return `free for ${format.duration(row.freeSeconds)}${row.left ? ": run ingestd leave" : ""}`;
  if (row.holder === "this daemon") return row.reason ?? "connected";
  return "–";
}

function errorTable(errors) {
  if (!errors.length) return empty("No warning and no error since the start.");
  return table("Warnings and errors of the log, the newest first", [
    { title: "Last at", value: (row) => format.time(row.at) },
    { title: "Event", value: (row) => h("span", { class: row.level === "warning" ? "badge soft" : "badge bad" }, row.event.replaceAll("_", " ")) },
    { title: "What", wrap: true, value: (row) => row.detail || "–" },
    { title: "Times", number: true, value: (row) => format.count(row.times) },
  ], errors);
}

function ledger(samples) {
  const names = [
    ["Received", "ingestd_received_total"], ["Stored", "ingestd_committed_total"], ["Duplicates", "ingestd_duplicate_total"],
    ["Dead letters", "ingestd_dead_lettered_total"], ["In flight", "ingestd_in_flight"],
  ];
  return table("Received = stored + duplicates + dead letters + in flight", [
    { title: "Messages", value: ([name]) => name },
    { title: "Number", number: true, value: ([, metric]) => format.count(total(samples, metric) ?? 0) },
  ], names, { isSeen: true });
}

function workOf(samples) {
  const [sum, flushes] = ["sum", "count"].map((part) => total(samples, `ingestd_flush_seconds_${part}`) ?? 0);
  const [waited, stored] = ["sum", "count"].map((part) => total(samples, `ingestd_receipt_to_commit_seconds_${part}`) ?? 0);
  const made = samples.filter((sample) => sample.name === "ingestd_ledger_made_until_timestamp_seconds" && sample.value);
  const until = made.length ? Math.min(...made.map((sample) => sample.value)) : null; // of meters and of vehicles
  const difference = total(samples, "ingestd_clock_difference_seconds");
  const date = until ? new Date(until * 1000).toISOString() : null;
  return facts([
    ["Flushes", flushes ? `${format.count(flushes)}, on average ${format.number((sum / flushes) * 1000, 1, "ms")}` : "none yet"],
    ["From receipt to commit", stored ? `on average ${format.number((waited / stored) * 1000, 1, "ms")}` : "none yet"],
    ["Flushes tried again", format.count(total(samples, "ingestd_flush_retries_total") ?? 0)],
    ["Energy is computed up to", date ? `${format.time(date)}, ${format.ago(date)}` : "not begun"],
    ["Devices whose energy is computed again", format.count(total(samples, "ingestd_ledger_stale_devices") ?? 0)],
    ["Connections to the broker", format.count(total(samples, "ingestd_broker_connections_total") ?? 0)],
    ["Sessions lost by the broker", format.count(total(samples, "ingestd_broker_sessions_lost_total") ?? 0)],
    ["Dead letters not stored", format.count(total(samples, "ingestd_dead_letters_suppressed_total") ?? 0)],
    ["Clock differs from the database's by", difference === null ? "–" : format.number(Math.abs(difference) * 1000, 0, "ms")],
  ]);
}
