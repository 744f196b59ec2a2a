// The fleet: tiles, energy by the hour, sessions under way, the worst ten.

import { get, health } from "/web/api.js";
import { charging } from "/web/charging.js";
import { chart, spans } from "/web/chart.js";
import { empty, fill, h, section, table } from "/web/dom.js";
import * as format from "/web/format.js";

const MAX_COUNTED = 1000;

export function fleet(root) {
  const tiles = h("dl", { class: "tiles" }, tile("Loading …", "–"));
  const plot = h("div", {}, empty("Loading …"));
  const worst = h("div", {}, empty("Loading …"));
  const sessions = charging();
  const counts = seldom(() => Promise.all([onlineDevices(), activeAlerts(), recentLetters()]));
  root.append(h("h1", {}, "Fleet, last 24 hours"), tiles, section("Energy of the fleet by the hour", plot), section("Sessions under way", sessions.root), section("The worst ten", worst));
  return async () => {
    const [now, series] = await Promise.all([
      get("/v1/analytics/fleet"),
      get("/v1/analytics/fleet/series", { bucket: "1h" }),
    ]);
    fill(worst, worstTable(now));
    fill(plot, energyPlot(series));
    const charge = await sessions.refresh();
    const [[online, active, letters], { receivedMessages }] = await Promise.all([counts(), health()]);
    fill(tiles, tilesOf({ now, online, charge, active, letters, rate: newRate(receivedMessages) }));
  };
}

function tile(name, value, note = "", bad = false) {
  return h("div", { class: bad ? "tile bad" : "tile" }, h("dt", {}, name), h("dd", {}, value, " ", h("small", {}, note)));
}

function tilesOf({ now, online, charge, active, letters, rate }) {
  const devices = now.devices.vehicles + now.devices.meters;
  return [
    tile("Devices online", online, ` heard in 24 h: ${format.count(devices)}`),
    tile("Readings", rate === null ? "…" : format.number(rate, 1), "/s"),
    tile("Charging now", charge ?? "…", charge === "1" ? "vehicle" : "vehicles"),
    tile("AC energy", format.kwh(now.energy.acConsumed), "from the grid, by meters"),
    tile("DC energy", format.kwh(now.energy.dcDelivered), "into the batteries"),
    tile("Efficiency", format.percent(now.mapped.efficiencyRatio), "of mapped vehicles"),
    tile("Losses", format.kwh(now.mapped.lossKwh), "AC less DC"),
    tile("Below threshold", h("a", { href: "#/vehicles?show=below" }, format.count(now.vehicles["below-threshold"])), now.vehicles["below-threshold"] === 1 ? "vehicle" : "vehicles", now.vehicles["below-threshold"] > 0),
    tile("Alerts", h("a", { href: "#/alerts" }, active), "active", active !== "0"),
    tile("Dead letters", h("a", { href: "#/dead-letters" }, letters), "in 24 h", !["0", "–"].includes(letters)),
  ];
}

/** What counts rows is asked for each 30 s: the API has no shorter way to count them. */
function seldom(ask) {
  let [answer, at] = [null, -Infinity];
  return async () => {
    if (performance.now() - at > 30_000) {
      answer = await ask();
      at = performance.now();
    }
    return answer;
  };
}

/** The last count of messages, and the rate up to it. Kept between views: a rate needs two counts. */
let last = { at: 0, count: null, rate: null };

/** Messages per second since the last look. A smaller count than before means that the daemon began again. */
function newRate(count = null) {
  const at = performance.now();
  const seconds = (at - last.at) / 1000;
  if (count === null || last.count === null || count < last.count) last = { at, count, rate: null };
  else if (seconds >= 1) last = { at, count, rate: (count - last.count) / seconds };
  return last.rate;
}

async function onlineDevices() {
  const lists = await Promise.all(
    ["vehicles", "meters"].map((kind) => get(`/v1/${kind}`, { status: "online", limit: MAX_COUNTED })),
  );
  const sum = lists.reduce((all, list) => all + (list.vehicles ?? list.meters).length, 0);
  return lists.some((list) => list.next) ? `${format.count(sum)}+` : format.count(sum);
}

async function activeAlerts() {
  const { alerts, next } = await get("/v1/alerts", { state: "active", limit: MAX_COUNTED });
  return next ? `${format.count(alerts.length)}+` : format.count(alerts.length);
}

/** Dead letters need the scope `admin`: a dash for others. */
async function recentLetters() {
  try {
    const since = new Date(Date.now() - 24 * 3600e3).toISOString();
    const { deadLetters, next } = await get("/v1/dead-letters", { startTime: since, limit: MAX_COUNTED });
    return next ? `${format.count(deadLetters.length)}+` : format.count(deadLetters.length);
  } catch (error) {
    if (error.status === 403) return "–";
    throw error;
  }
}

function worstTable(now) {
  if (!now.worst.length) {
    return empty(
      "No vehicle has an efficiency yet. It needs readings of the vehicle and of its meter, and a mapping: open a vehicle to set one. ",
      now.devices.vehicles + now.devices.meters ? "" : firstSteps(),
    );
  }
  return table("Vehicles with the lowest efficiency in the last 24 hours", [
    { title: "Vehicle", value: (row) => h("a", { href: `#/vehicle/${encodeURIComponent(row.vehicleId)}` }, row.vehicleId) },
    { title: "Efficiency", number: true, value: (row) => format.percent(row.efficiencyRatio) },
    { title: "AC", number: true, value: (row) => format.kwh(row.acConsumed) },
    { title: "DC", number: true, value: (row) => format.kwh(row.dcDelivered) },
    { title: "Loss", number: true, value: (row) => format.kwh(row.acConsumed - row.dcDelivered) },
  ], now.worst.slice(0, 10));
}

export function firstSteps() {
  return h("span", {}, "Nothing has reported yet: publish a reading to ", h("code", {}, "meters/NAME/telemetry"), " or ",
    h("code", {}, "vehicles/NAME/telemetry"), ", or send one with ", h("code", {}, "POST /v1/telemetry"), ".");
}

function energyPlot(series) {
  if (!series.points.some((point) => point.acConsumed !== null || point.dcDelivered !== null)) {
    return empty("No energy in the last 24 hours. ", firstSteps());
  }
  return chart({
    title: "Energy of the fleet by the hour", unit: "kWh", kind: "bars", wide: true, names: ["AC of meters", "DC of vehicles"],
    points: spans(series, (point) => [point.acConsumed, point.dcDelivered]),
  });
}
