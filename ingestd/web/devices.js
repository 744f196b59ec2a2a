// Lists of vehicles and of meters: search, sort, filter, pages. Offline and below-threshold ones come first.

import { get } from "/web/api.js";
import { empty, fill, h, labelled, select, table } from "/web/dom.js";
import { firstSteps } from "/web/fleet.js";
import * as format from "/web/format.js";
import { isNewer } from "/web/live.js";

const ROWS = 100;
/** Pages of 1000 devices that a search looks through at a time. */
const MAX_SEARCHED = 20;

const SORTS = {
  attention: "what needs attention first",
  id: "by id",
  "lastSeen:desc": "last heard first",
  "lastSeen:asc": "longest silent first",
  "efficiency:asc": "lowest efficiency first",
  "efficiency:desc": "highest efficiency first",
};

export const vehicles = (root, place) => list(root, place, { kind: "vehicle", plural: "vehicles", title: "Vehicles" });
export const meters = (root, place) => list(root, place, { kind: "meter", plural: "meters", title: "Meters" });

function list(root, { query }, stream) {
  const asked = { search: query.get("search") ?? "", sort: query.get("sort") ?? "attention", show: query.get("show") ?? "" };
  const stack = [start(stream, asked)]; // where each page up to this one begins
  const rows = h("div", {}, empty("Loading …"));
  const found = h("p", { class: "soft", "aria-live": "polite" });
  const pager = h("p");
  root.append(h("h1", {}, stream.title), controls(stream, asked), found, rows, pager);

  const id = `${stream.kind}Id`;
  const newest = new Map(); // readings that came by themselves, by id
  let shown = [];
  let watch = () => {};
  const draw = () => {
    const now = shown.map((row) => withReading(row, newest.get(row[id])));
    fill(rows, now.length ? rowsOf(stream, now) : nothing(stream, asked));
  };
  const show = (readings) => {
    for (const reading of readings) newest.set(reading[id], reading);
    draw();
  };
  const refresh = async (given = watch) => {
    watch = given;
    const depth = stack.length;
    const page = await read(stream, asked, stack.at(-1));
    if (depth !== stack.length) return;
    shown = page.devices;
    draw();
    watch(stream.kind, shown.map((row) => row[id]), show);
    const said = page.devices.length ? `${format.count(page.devices.length)} ${stream.plural} on page ${stack.length}` : "";
    if (found.textContent !== said) found.textContent = said;
    const turn = (text, able, move) => h("button", { type: "button", disabled: !able, onclick: () => { move(); refresh(); } }, text);
    fill(pager, turn("Previous page", stack.length > 1, () => stack.pop()), " ", turn("Next page", page.next !== null, () => stack.push(page.next)));
  };
  return refresh;
}

/** A row of the list with a newer reading: the device has just reported. */
function withReading(row, reading) {
  if (!reading || !isNewer(reading, row)) return row;
  return { ...reading, lastSeen: reading.receivedAt, online: true, efficiencyRatio: row.efficiencyRatio, status: row.status };
}

function controls(stream, asked) {
  const go = (event) => {
    event.preventDefault();
    const given = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    location.hash = `#/${stream.plural}?${given}`;
  };
  const sorts = Object.entries(SORTS).filter(([value]) => stream.kind === "vehicle" || !value.startsWith("efficiency"));
  const shows = [["", "all"], ["online", "online"], ["offline", "offline"]];
  if (stream.kind === "vehicle") shows.push(["below", "below threshold"]);
  const form = h(
    "form",
    { onsubmit: go, role: "search" },
    labelled("Id contains", h("input", { name: "search", type: "search", value: asked.search })),
    labelled("Sort", select("sort", sorts, asked.sort, go)),
    labelled("Show", select("show", shows, asked.show, go)),
    h("button", {}, "Search"),
  );
  return form;
}

/** The questions to the API that make the list, one after the other, and where to begin in the first. */
function start(stream, asked) {
  return { question: 0, after: null, questions: questions(stream, asked) };
}

function questions(stream, asked) {
  const filter = { online: { status: "online" }, offline: { status: "offline" }, below: { belowThreshold: true } }[asked.show] ?? {};
  if (asked.search) return [{ ...filter, sort: "id" }];
  if (asked.sort !== "attention") {
    const [sort, order] = asked.sort.split(":");
    return [{ ...filter, sort, order }];
  }
  if (asked.show) return [{ ...filter, sort: stream.kind === "vehicle" ? "efficiency" : "id" }];
  if (stream.kind === "meter") return [{ status: "offline" }, { status: "online" }];
  return [{ status: "offline" }, { status: "online", sort: "efficiency" }]; // of those online, the lowest ratio first
}

async function read(stream, asked, from) {
  const devices = [];
  let { question, after } = from;
  let turns = 0;
  while (question < from.questions.length && devices.length < ROWS && turns < MAX_SEARCHED) {
    const limit = asked.search ? 1000 : ROWS - devices.length;
    const page = await get(`/v1/${stream.plural}`, { ...from.questions[question], after, limit });
    const wanted = asked.search.toLowerCase();
    devices.push(...page[stream.plural].filter((one) => one[`${stream.kind}Id`].toLowerCase().includes(wanted)));
    after = page.next;
    if (after === null) question += 1;
    turns += 1;
  }
  return { devices, next: question < from.questions.length ? { ...from, question, after } : null };
}

function nothing(stream, asked) {
  return asked.search || asked.show ? empty(`No ${stream.kind} is like that.`) : empty(firstSteps());
}

function rowsOf(stream, devices) {
  const id = `${stream.kind}Id`;
  const common = [
    { title: stream.title.slice(0, -1), value: (row) => h("a", { href: `#/${stream.kind}/${encodeURIComponent(row[id])}` }, row[id]) },
    { title: "State", value: state },
    { title: "Last heard", value: (row) => h("span", { title: format.time(row.lastSeen) }, format.ago(row.lastSeen)) },
  ];
  const own = stream.kind === "vehicle"
    ? [
      { title: "Efficiency, 24 h", number: true, value: (row) => format.percent(row.efficiencyRatio) },
      { title: "State of charge", number: true, value: (row) => format.number(row.soc, 1, "%") },
      { title: "Battery", number: true, value: (row) => format.number(row.batteryTemp, 1, "°C") },
      { title: "Newest DC energy", number: true, value: (row) => energy(row.kwhDeliveredDc, row.kwhDeliveredDcRegister) },
    ]
    : [
      { title: "Newest AC energy", number: true, value: (row) => energy(row.kwhConsumedAc, row.kwhConsumedAcRegister) },
      { title: "Voltage", number: true, value: (row) => format.number(row.voltage, 1, "V") },
    ];
  return table(`${stream.title} with their newest readings`, [...common, ...own], devices);
}

const energy = (interval, register) =>
  (typeof register === "number" && typeof interval !== "number" ? `register ${format.number(register, 3, "kWh")}` : format.number(interval, 3, "kWh"));

function state(row) {
  const badges = [h("span", { class: row.online ? "badge good" : "badge bad" }, row.online ? "online" : "offline")];
  if (row.status && row.status !== "ok") {
    badges.push(" ", h("span", { class: row.status === "below-threshold" ? "badge bad" : "badge soft" }, row.status.replaceAll("-", " ")));
  }
  return h("span", {}, badges);
}
