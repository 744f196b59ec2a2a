// Alerts, active and past.

import { h, labelled, select, table } from "/web/dom.js";
import * as format from "/web/format.js";
import { paged } from "/web/paged.js";

export function alerts(root, { query }) {
  if (!query.has("state") && !query.size) query.set("state", "active");
  if (query.get("state") === "all") query.delete("state");
  return paged(root, {
    path: "alerts", query, title: "Alerts", api: "/v1/alerts", key: "alerts", show,
    controls: (go) => [
      labelled("State", select("state", [["active", "active"], ["past", "past"], ["all", "all"]], query.get("state") ?? "all", go)),
      labelled("Device", h("input", { name: "device", type: "search", value: query.get("device") ?? "" })),
    ],
    none: (asked) => (asked.get("state") === "active" ? "No alert is active. Past ones: choose “past”." : "There are no such alerts."),
  });
}

function show(rows) {
  return table("Alerts, the newest first", [
    { title: "Alert", value: (row) => row.kind.replaceAll("-", " ") },
    { title: "Device", value: (row) => (row.deviceId === null ? "–" : h("a", { href: link(row) }, row.deviceId)) },
    { title: "State", value: (row) => h("span", { class: row.state === "cleared" ? "badge soft" : "badge bad" }, row.state) },
    { title: "What", wrap: true, value: (row) => row.detail },
    { title: "Since", value: (row) => format.time(row.since) },
    { title: "Cleared", value: (row) => format.time(row.clearedAt) },
  ], rows);
}

/** Of the kinds of alerts about one device, only meter-silent is about a meter. */
function link(row) {
  return `#/${row.kind === "meter-silent" ? "meter" : "vehicle"}/${encodeURIComponent(row.deviceId)}`;
}
