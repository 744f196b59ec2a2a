// Dead letters: messages that did not become readings, with why, and what was sent; and their replay.

import { change } from "/web/api.js";
import { fill, h, labelled, select, table } from "/web/dom.js";
import * as format from "/web/format.js";
import { paged } from "/web/paged.js";

const REASONS = [
  "not-json", "schema", "identity-mismatch", "bad-topic", "timestamp-out-of-range", "too-large", "unknown-device", "database",
];

/** So many refusals are shown after a replay; the list has the others. */
const MAX_REFUSALS = 5;

export function deadLetters(root, { query }) {
  const said = h("div", { role: "status", "aria-live": "polite" });
  const one = (id, refresh) => tried(said, refresh, async () => {
    const done = await change("POST", `/v1/dead-letters/${id}/replay`);
    fill(said, result(done));
  });
  return paged(root, {
    path: "dead-letters", query, title: "Dead letters", api: "/v1/dead-letters", key: "deadLetters",
    show: (rows, refresh) => show(rows, (id) => one(id, refresh)),
    actions: (filter, refresh) => h("div", {},
      h("p", {}, h("button", { type: "button", onclick: () => all(said, filter(), refresh) }, query.size ? "Replay those of this filter" : "Replay all"), " ",
        h("span", { class: "soft" }, "decodes them again: what is a reading now is stored.")),
      said),
    controls: (go) => [
      labelled("Reason", select("reason", [["", "any"], ...REASONS.map((one) => [one, one])], query.get("reason") ?? "", go)),
      labelled("Arrived in", select("hours", [["", "all time"], ["1", "the last hour"], ["24", "the last 24 hours"], ["168", "the last 7 days"]], query.get("hours") ?? "", go)),
      labelled("Device", h("input", { name: "device", type: "search", value: query.get("device") ?? "" })),
    ],
    none: (asked) => (asked.size ? "There are no such dead letters." : "There are no dead letters: every message became a reading."),
  });
}

/** The newest thousand of a filter, and on demand those before them. */
function all(said, filter, refresh, before) {
  return tried(said, refresh, async () => {
    const done = await change("POST", "/v1/dead-letters/replay", { ...filter, ...(before ? { before } : {}) });
    const more = h("button", { type: "button", onclick: () => all(said, filter, refresh, done.next) }, "Replay older ones");
    fill(said, result(done), done.next === null ? null : h("p", {}, more));
  });
}

async function tried(said, refresh, act) {
  fill(said, h("p", { class: "soft" }, "Replaying …"));
  try {
    await act();
    await refresh();
  } catch (error) {
    const text = error.status === 403 ? "This needs a token with the scope admin." : error.message;
    fill(said, h("p", { class: "problem" }, text));
  }
}

function result({ stored, duplicates, rejected }) {
  const parts = [[stored, "stored"], [duplicates, "there already"], [rejected.length, "refused again"]];
  const words = parts.filter(([number]) => number).map(([number, what]) => `${format.count(number)} ${what}`).join(", ") || "There was nothing to replay";
  return [
    h("p", { class: rejected.length ? "problem" : "good" }, `${words}.`),
    rejected.length ? h("ul", {}, rejected.slice(0, MAX_REFUSALS).map((one) => h("li", {}, `No. ${one.id}: ${one.reason}: ${one.detail}`))) : null,
  ];
}

function show(rows, replay) {
  return table("Dead letters, the newest first", [
    { title: "Arrived", value: (row) => format.time(row.receivedAt) },
    { title: "Reason", value: (row) => h("span", { class: "badge bad" }, row.reason) },
    { title: "Why, and what was sent", wrap: true, value: what },
    { title: "Topic", value: (row) => row.topic ?? "–" },
    { title: "By", value: (row) => row.source },
    { title: "Again", value: (row) => h("button", { type: "button", "aria-label": `Replay no. ${row.id}`, onclick: () => replay(row.id) }, "Replay") },
  ], rows);
}

function what(row) {
  return h("div", {}, row.detail,
    h("details", { "data-name": String(row.id) },
      h("summary", {}, row.payloadEncoding === "utf-8" ? "Message" : `Message (${row.payloadEncoding})`),
      h("pre", {}, row.payload)));
}
