// Dead letters: messages that did not become readings, with why, and what was sent.

import { h, labelled, select, table } from "/web/dom.js";
import * as format from "/web/format.js";
import { paged } from "/web/paged.js";

const REASONS = [
  "not-json", "schema", "identity-mismatch", "bad-topic", "timestamp-out-of-range", "too-large", "unknown-device", "database",
];

export function deadLetters(root, { query }) {
  return paged(root, {
    path: "dead-letters", query, title: "Dead letters", api: "/v1/dead-letters", key: "deadLetters", show,
    controls: (go) => [
      labelled("Reason", select("reason", [["", "any"], ...REASONS.map((one) => [one, one])], query.get("reason") ?? "", go)),
      labelled("Arrived in", select("hours", [["", "all time"], ["1", "the last hour"], ["24", "the last 24 hours"], ["168", "the last 7 days"]], query.get("hours") ?? "", go)),
      labelled("Device", h("input", { name: "device", type: "search", value: query.get("device") ?? "" })),
    ],
    none: (asked) => (asked.size ? "There are no such dead letters." : "There are no dead letters: every message became a reading."),
  });
}

function show(rows) {
  return table("Dead letters, the newest first", [
    { title: "Arrived", value: (row) => format.time(row.receivedAt) },
    { title: "Topic", value: (row) => row.topic ?? "–" },
    { title: "By", value: (row) => row.source },
    { title: "Reason", value: (row) => h("span", { class: "badge bad" }, row.reason) },
    { title: "Why, and what was sent", wrap: true, value: what },
  ], rows);
}

function what(row) {
  return h("div", {}, row.detail,
    h("details", { "data-name": String(row.id) },
      h("summary", {}, row.payloadEncoding === "utf-8" ? "Message" : `Message (${row.payloadEncoding})`),
      h("pre", {}, row.payload)));
}
