// The window of time that a device is shown for. It is in the address, so that a link shows the same.

import { h, labelled, select } from "/web/dom.js";
import * as format from "/web/format.js";

const HOURS = { 6: "6 hours", 24: "24 hours", 168: "7 days", 743: "31 days" };

/** {start, end, hours, bucket} of an address; `hours` is null if start and end are given. */
export function windowOf(query) {
  const [start, end] = ["start", "end"].map((name) => new Date(query.get(name)));
  if (query.get("start") && query.get("end") && start < end) return { start, end, hours: null, bucket: bucket(end - start) };
  const hours = HOURS[query.get("hours")] ? Number(query.get("hours")) : 24;
  const now = new Date();
  const quarter = 900e3;
  return { start: new Date(Math.floor((now - hours * 3600e3) / quarter) * quarter), end: now, hours, bucket: bucket(hours * 3600e3) };
}

/** About 50 buckets on a wide screen, half as many on a phone: bars that can be told apart. */
function bucket(milliseconds) {
  const hours = milliseconds / 3600e3;
  const most = innerWidth < 700 ? 30 : 60;
  const lengths = { "5m": 1 / 12, "15m": 0.25, "30m": 0.5, "1h": 1, "3h": 3, "6h": 6, "12h": 12, "1d": 24, "7d": 168 };
  return Object.keys(lengths).find((name) => hours / lengths[name] <= most) ?? "7d";
}

export function asked(window) {
  return { startTime: window.start.toISOString(), endTime: window.end.toISOString() };
}

export function chooser(path, query) {
  const shown = windowOf(query);
  const go = (event) => {
    event.preventDefault();
    const given = new FormData(form);
    if (given.get("hours")) location.hash = `#/${path}?hours=${given.get("hours")}`;
    else if (given.get("start") && given.get("end")) {
      const [start, end] = ["start", "end"].map((name) => new Date(given.get(name)).toISOString());
      location.hash = `#/${path}?start=${start}&end=${end}`;
    }
  };
  const show = (event) => {
    own.forEach((one) => { one.hidden = event.target.value !== ""; });
    if (event.target.value) go(event);
  };
  const input = (name, date) =>
    h("label", { hidden: shown.hours !== null }, name === "start" ? "From" : "To", h("input", { type: "datetime-local", name, value: format.local(date) }));
  const own = [input("start", shown.start), input("end", shown.end), h("button", { hidden: shown.hours !== null }, "Show")];
  const form = h("form", { onsubmit: go, "aria-label": "Window" },
    labelled("Window", select("hours", [...Object.entries(HOURS).map(([n, text]) => [n, `last ${text}`]), ["", "from … to …"]], shown.hours ?? "", show)), own);
  return form;
}
