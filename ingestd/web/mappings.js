// The mappings of a vehicle: a time line, a table, and a form that sets or ends one.

import { change, get } from "/web/api.js";
import { widthOf } from "/web/chart.js";
import { empty, fill, h, labelled, s, table } from "/web/dom.js";
import * as format from "/web/format.js";

export function mappings(id) {
  const path = `/v1/analytics/mappings/${encodeURIComponent(id)}`;
  const line = h("div");
  const rows = h("div", {}, empty("Loading …"));
  const said = h("div", { role: "status", "aria-live": "polite" });
  const refresh = async () => {
    const { history } = await known(path);
    fill(line, history.length ? timeLine(history) : null);
    fill(rows, history.length ? historyTable(history, end) : empty("No meter is mapped to this vehicle, so it has no AC energy and no efficiency. Set one here."));
  };
  const end = async () => {
    if (!confirm("End the mapping now?")) return;
    await tried(said, async () => {
      await change("DELETE", path);
      fill(said, h("p", { class: "good" }, "The mapping has ended."));
      await refresh();
    });
  };
  const put = (value) => tried(said, async () => {
    const set = await change("PUT", path, value);
    fill(said, h("p", { class: "good" }, `Set: ${set.meterId} from ${format.time(set.validFrom)} ${set.validTo ? `to ${format.time(set.validTo)}` : "on"}.`));
    await refresh();
  }, value, put);
  return { root: h("div", {}, line, rows, form(put), said), refresh };
}

async function known(path) {
  try {
    return await get(path);
  } catch (error) {
    if (error.status === 404) return { history: [] };
    throw error;
  }
}

/** Explains what went wrong. After a 409, the change can be made in spite of the others. */
async function tried(said, act, value, again) {
  try {
    await act();
  } catch (error) {
    if (error.status === 403) fill(said, h("p", { class: "problem" }, "This needs a token with the scope admin."));
    else if (error.status === 409 && error.body.segments) fill(said, conflict(error, value, again));
    else fill(said, h("p", { class: "problem" }, error.message));
  }
}

function conflict(error, value, again) {
  return h("div", { class: "problem" },
    h("p", {}, "Nothing was changed: at this time the vehicle is mapped already, and a vehicle has one meter at a time. It would overlap"),
    h("ul", {}, error.body.segments.map((one) => h("li", {}, `${one.meterId}, ${span(one)}`))),
    h("p", {}, "Choose another time, or let the new mapping take its time from these. They keep what lies before and after it."),
    h("button", { type: "button", onclick: () => again({ ...value, replace: true }) }, "Replace them"));
}

const span = (one) => `${format.minute(one.validFrom)} to ${one.validTo ? format.minute(one.validTo) : "now and on"}`;

function form(put) {
  const field = (name, text, attributes) => labelled(text, h("input", { name, ...attributes }));
  const send = (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    const value = { meterId: given.get("meterId").trim() };
    for (const name of ["validFrom", "validTo"]) if (given.get(name)) value[name] = new Date(given.get(name)).toISOString();
    put(value);
  };
  return h("form", { onsubmit: send, "aria-label": "Set a mapping" },
    field("meterId", "Meter", { required: true, autocomplete: "off", spellcheck: "false" }),
    field("validFrom", "From (now if empty)", { type: "datetime-local", step: "1" }),
    field("validTo", "To (open if empty)", { type: "datetime-local", step: "1" }),
    h("button", { class: "main" }, "Set"));
}

function historyTable(history, end) {
  return table("All mappings, the newest first", [
    { title: "Meter", value: (row) => h("a", { href: `#/meter/${encodeURIComponent(row.meterId)}` }, row.meterId) },
    { title: "From", value: (row) => format.time(row.validFrom) },
    { title: "To", value: (row) => (row.validTo ? format.time(row.validTo) : "open") },
    { title: "Change", value: (row) => (row.validTo ? "" : h("button", { type: "button", "aria-label": `End the mapping to ${row.meterId}`, onclick: end }, "End now")) },
  ], history);
}

function timeLine(history) {
  const width = widthOf(true);
  const now = Date.now();
  const first = Math.min(now - 86400e3, ...history.map((one) => Date.parse(one.validFrom)));
  const last = Math.max(now, ...history.map((one) => Date.parse(one.validTo ?? one.validFrom)));
  const [from, to] = [first, last + (last - first) * 0.03 + 60e3];
  const x = (at) => ((at - from) / (to - from)) * width;
  const names = [...new Set(history.map((one) => one.meterId))].toReversed();
  return s("svg", { class: "chart", viewBox: `0 0 ${width} ${names.length * 24 + 20}`, role: "img", "aria-label": `Time line of ${history.length} mappings; the table below says the same` },
    names.map((name, i) => history.filter((one) => one.meterId === name).map((one) => {
      const [begin, finish] = [x(Date.parse(one.validFrom)), x(one.validTo ? Date.parse(one.validTo) : to)];
      return s("rect", { class: `segment c${i % 3}`, x: begin, y: i * 24 + 2, width: Math.max(2, finish - begin), height: 18, rx: 3 },
        s("title", {}, `${one.meterId}: ${span(one)}`));
    })),
    s("line", { class: "limit", x1: x(now), x2: x(now), y1: 0, y2: names.length * 24 }),
    s("text", { x: 0, y: names.length * 24 + 14 }, format.minute(new Date(from).toISOString())),
    s("text", { x: x(now), y: names.length * 24 + 14, "text-anchor": "end" }, "now"));
}
