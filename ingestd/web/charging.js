// The charging sessions of the fleet that are under way, by pages.

import { get } from "/web/api.js";
import { empty, fill, h, table } from "/web/dom.js";
import * as format from "/web/format.js";

/** `refresh` returns how many there are. */
export function charging() {
  const root = h("div", {}, empty("Loading …"));
  const pages = [null]; // the `after` of each page up to this one
  const refresh = async () => {
    const after = pages.at(-1);
    const { sessions, next } = await get("/v1/analytics/fleet/sessions", { after });
    if (after !== pages.at(-1)) return null;
    const turn = (text, able, move) => h("button", { type: "button", disabled: !able, onclick: () => { move(); refresh(); } }, text);
    fill(root,
      sessions.length ? sessionTable(sessions) : empty(pages.length > 1 || next ? "None on this page." : "No vehicle charges now."),
      pages.length > 1 || next
        ? h("p", {}, turn("Previous vehicles", pages.length > 1, () => pages.pop()), " ", turn("Next vehicles", next !== null, () => pages.push(next)))
        : null);
    return pages.length > 1 || next ? "many" : format.count(sessions.length);
  };
  return { root, refresh };
}

function sessionTable(sessions) {
  return table("Vehicles that charge now, with their energy since the session began", [
    { title: "Vehicle", value: (row) => h("a", { href: `#/vehicle/${encodeURIComponent(row.vehicleId)}` }, row.vehicleId) },
    { title: "Since", value: (row) => format.short(row.start) },
    { title: "Power", number: true, value: (row) => (row.kw === 0 ? "in a pause" : format.number(row.kw, 1, "kW")) },
    { title: "AC", number: true, value: (row) => format.kwh(row.acConsumed) },
    { title: "DC", number: true, value: (row) => format.kwh(row.dcDelivered) },
    { title: "Efficiency", number: true, value: (row) => format.percent(row.efficiencyRatio) },
    { title: "SoC", number: true, value: (row) => `${format.number(row.socFrom, 0)} → ${format.number(row.socTo, 0, "%")}` },
  ], sessions);
}
