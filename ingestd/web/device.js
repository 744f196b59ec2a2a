// One vehicle, or one meter: its figures over a window, in words and plots.

import { device, find, get } from "/web/api.js";
import { chart, spans } from "/web/chart.js";
import { empty, facts, fill, h, section, table } from "/web/dom.js";
import * as format from "/web/format.js";
import { isNewer } from "/web/live.js";
import { mappings } from "/web/mappings.js";
import { settings } from "/web/settings.js";
import { asked, chooser, windowOf } from "/web/windows.js";

export function vehicle(root, { id, query }) {
  const parts = places(root, `Vehicle ${id}`, `vehicle/${encodeURIComponent(id)}`, query);
  const [energy, efficiency, battery, heat, judgement, sessions] = [
    "AC and DC energy", "Efficiency", "State of charge", "Battery temperature", "Data quality", "Charging sessions",
  ].map(() => h("div", {}, empty("Loading …")));
  const editor = mappings(id);
  const own = settings("vehicle", id);
  parts.figures.append(
    columns(section("Now", parts.now), section("Data quality", judgement)),
    columns(section("AC and DC energy", energy), section("Efficiency", efficiency)),
    columns(section("State of charge", battery), section("Battery temperature", heat)),
    section("Charging sessions", sessions),
  );
  parts.setup.append(
    section("Mappings: which meter feeds this vehicle", editor.root),
    section("Settings of this vehicle", own.root),
  );
  const showNow = newestIn(parts.now, nowOfVehicle);
  return async (watch) => {
    watch("vehicle", [id], showNow);
    const window = windowOf(query);
    const span = asked(window);
    const [live] = await Promise.all([find(device("vehicle", id, "live")), editor.refresh(), own.refresh()]);
    const series = await find(device("vehicle", id, "series"), { ...span, bucket: window.bucket });
    if (!parts.isKnown("vehicle", id, series)) return;
    if (live) showNow([live]);
    const [judged, charged] = await Promise.all([
      get(`/v1/analytics/performance/${encodeURIComponent(id)}`, span),
      sessionsOf(id, window, span),
    ]);
    fill(judgement, quality(judged));
    const ac = await acOf(judged.meters, window);
    const acAt = (point) => ac.get(Date.parse(point.start));
    const points = spans(series, (point) => [acAt(point)?.kwh ?? null, point.kwh], (point) => [acAt(point)?.spread, point.spread]);
    const bands = charged.sessions ?? [];
    fill(energy, chart({ title: "AC and DC energy", unit: "kWh", kind: "bars", names: ["AC", "DC"], points, digits: 3, bands }), shared(judged));
    const ratios = points.map((point) => ({ ...point, values: [ratio(...point.values)] }));
    fill(efficiency, chart({
      title: "Efficiency", unit: "%", names: ["DC of AC"], points: ratios, limit: judged.threshold * 100, range: [50, 100],
    }), h("p", { class: "soft" }, `The broken line is the threshold, ${format.percent(judged.threshold)}. Gaps: AC or DC is not known, or is nearly nothing.`));
    fill(battery, chart({ title: "State of charge", unit: "%", names: ["SoC"], range: [0, 100], bands, points: spans(series, (point) => [point.soc]) }));
    fill(heat, chart({ title: "Battery temperature", unit: "°C", names: ["Mean"], bands, points: spans(series, (point) => [point.batteryTemp]) }));
    fill(sessions, sessionTable(charged));
  };
}

export function meter(root, { id, query }) {
  const parts = places(root, `Meter ${id}`, `meter/${encodeURIComponent(id)}`, query);
  const [energy, voltage, totals] = [1, 2, 3].map(() => h("div", {}, empty("Loading …")));
  const own = settings("meter", id);
  parts.figures.append(
    columns(section("Now", parts.now), section("Energy by day", totals)),
    columns(section("AC energy", energy), section("Voltage", voltage)),
  );
  parts.setup.append(section("Settings of this meter", own.root));
  const showNow = newestIn(parts.now, nowOfMeter);
  return async (watch) => {
    watch("meter", [id], showNow);
    const window = windowOf(query);
    const span = asked(window);
    const [live, series] = await Promise.all([
      find(device("meter", id, "live")),
      find(device("meter", id, "series"), { ...span, bucket: window.bucket }),
      own.refresh(),
    ]);
    if (!parts.isKnown("meter", id, series)) return;
    if (live) showNow([live]);
    fill(energy, chart({ title: "AC energy", unit: "kWh", kind: "bars", names: ["AC"], digits: 3, points: spans(series, (point) => [point.kwh], (point) => [point.spread]) }));
    fill(voltage, chart({ title: "Voltage", unit: "V", names: ["Mean"], points: spans(series, (point) => [point.voltage]) }));
    const days = await get(device("meter", id, "totals"), { ...span, timeZone: format.ZONE });
    fill(totals, table(`Days of ${format.ZONE}`, [
      { title: "Day", value: (row) => row.date },
      { title: "Energy", number: true, value: (row) => format.kwh(row.kwh) },
      { title: "Readings", number: true, value: (row) => format.count(row.samples) },
    ], days.totals.toReversed(), { isSeen: true }));
  };
}

function places(root, title, path, query) {
  const [unknown, figures, setup] = [h("div"), h("div"), h("div")];
  const now = h("div", {}, empty("It has no newest reading."));
  root.append(h("h1", {}, title), unknown, figures, setup);
  figures.append(chooser(path, query));
  /** Whether it has ever reported. If not, one card says so, and its set-up waits behind a button. */
  const isKnown = (kind, id, series) => {
    const is = series !== null;
    if (is || !unknown.firstChild) setup.hidden = !is;
    figures.hidden = !is;
    fill(unknown, is ? null : neverReported(kind, id, () => { setup.hidden = false; }));
    return is;
  };
  return { now, figures, setup, isKnown };
}

function neverReported(kind, id, prepare) {
  return section(`No ${kind} ${id} has ever reported`,
    empty("Publish its first reading to ", h("code", {}, `${kind}s/${id}/telemetry`), ", or look for another one: ", h("a", { href: `#/${kind}s` }, `all ${kind}s`), "."),
    h("button", { type: "button", onclick: prepare }, kind === "vehicle" ? "Set its mapping or settings before it reports" : "Set its settings before it reports"));
}

/** Shows the newest of all readings that it is given, in whatever order. */
function newestIn(part, facts) {
  let newest = null;
  return (readings) => {
    for (const reading of readings) if (isNewer(reading, newest)) newest = reading;
    fill(part, facts(newest));
  };
}

const columns = (...children) => h("div", { class: "columns" }, children);

function nowOfVehicle(live) {
  return facts([
    ["State of charge", format.number(live.soc, 1, "%")],
    ["Battery", format.number(live.batteryTemp, 1, "°C")],
    ...energyOf(live.kwhDeliveredDc, live.kwhDeliveredDcRegister, "DC energy"),
    ["Measured", format.time(live.timestamp)],
    ["Arrived", `${format.time(live.receivedAt)}, ${format.ago(live.receivedAt)}`],
  ]);
}

/** A device sends the energy of intervals, or a register. */
function energyOf(interval, register, name) {
  return isNumber(register) && !isNumber(interval)
    ? [[`Register of ${name}`, format.number(register, 3, "kWh")]]
    : [[`Newest ${name}`, format.number(interval, 3, "kWh")]];
}

const isNumber = (value) => typeof value === "number";

function nowOfMeter(live) {
  return facts([
    ...energyOf(live.kwhConsumedAc, live.kwhConsumedAcRegister, "AC energy"),
    ["Voltage", format.number(live.voltage, 1, "V")],
    ["Measured", format.time(live.timestamp)],
    ["Arrived", `${format.time(live.receivedAt)}, ${format.ago(live.receivedAt)}`],
  ]);
}

/** What there is to say about the figures of the window. */
function quality(judged) {
  const words = { ok: "ok", "below-threshold": "below the threshold", "insufficient-data": "not enough data", unmapped: "no meter is mapped", implausible: "implausible: more DC than AC" };
  return h("div", {}, facts([
    ["Judgement", h("strong", { class: judged.status === "ok" ? "good" : "bad" }, words[judged.status] ?? judged.status)],
    ["Because", judged.reason ?? "–"],
    ["Efficiency", `${format.percent(judged.energy.efficiencyRatio)}, ${format.percent(judged.threshold)} expected`],
    ["AC, DC", `${format.kwh(judged.energy.acConsumed)}, ${format.kwh(judged.energy.dcDelivered)}`],
    ["Compared", judged.compared ? `${format.percent(judged.compared.share)} of the energy: where AC and DC are both known` : "–"],
    ["Covered by readings", `${format.percent(judged.coverage)} of the time`],
    ["Gaps", judged.gaps.count ? `${judged.gaps.count}, the longest ${format.duration(judged.gaps.longestSeconds)}` : "none"],
    ["Readings", `${format.count(judged.samples.vehicle)} of the vehicle, ${format.count(judged.samples.meter)} of its meters`],
    ["Registers set back to 0", judged.resets ? format.plural(judged.resets, "time") : "never"],
    ["Not counted", judged.excluded ? `${format.count(judged.excluded)} readings that cannot be right` : "nothing"],
  ]));
}

/** {kwh, spread} of AC by the start of the bucket (in ms), summed over the meters while they were mapped. */
async function acOf(meters, window) {
  const sums = new Map();
  for (const one of meters) {
    const [from, to] = [new Date(one.from), new Date(one.to)];
    const series = await find(device("meter", one.meterId, "series"), {
      startTime: from.toISOString(), endTime: to.toISOString(), bucket: window.bucket,
    });
    for (const point of series?.points ?? []) {
      const at = Date.parse(point.start);
      const { kwh, spread } = sums.get(at) ?? { kwh: 0, spread: false };
      if (point.kwh !== null) sums.set(at, { kwh: kwh + point.kwh, spread: spread || point.spread });
    }
  }
  return sums;
}

function shared(judged) {
  return judged.meters.some((one) => one.shared)
    ? h("p", { class: "soft" }, "A meter fed other vehicles at the same time: the AC bars show all that it measured, the figures above only this vehicle's part.")
    : null;
}

function ratio(ac, dc) {
  return ac === null || dc === null || ac < 0.05 ? null : (dc / ac) * 100;
}

/** Without sessions where the window is too long for the API: 31 days, and up to a quarter of an hour. */
async function sessionsOf(id, window, span) {
  if (window.end - window.start > 31 * 86400e3) return { sessions: null };
  return get(device("vehicle", id, "sessions"), span);
}

function sessionTable({ sessions, reason }) {
  if (sessions === null) return empty("Sessions are shown for windows of at most 31 days.");
  const note = reason ? h("p", { class: "soft" }, reason) : null;
  if (!sessions.length) return [empty("The vehicle was not charged in this window."), note];
  return [table("Charging sessions, the newest first", [
    { title: "Begin", value: (row) => format.minute(row.start) },
    { title: "End", value: (row) => (row.open ? h("span", { class: "badge good" }, "under way") : format.minute(row.end)) },
    { title: "Length", number: true, value: (row) => format.between(row.start, row.end) },
    { title: "AC", number: true, value: (row) => format.kwh(row.acConsumed) },
    { title: "DC", number: true, value: (row) => format.kwh(row.dcDelivered) },
    { title: "Efficiency", number: true, value: (row) => format.percent(row.efficiencyRatio) },
    { title: "Loss", number: true, value: (row) => format.kwh(row.lossKwh) },
    { title: "SoC", number: true, value: (row) => `${format.number(row.socFrom, 0)} → ${format.number(row.socTo, 0, "%")}` },
    { title: "Hottest", number: true, value: (row) => format.number(row.maxTemperature, 1, "°C") },
  ], sessions.toReversed()), note];
}
