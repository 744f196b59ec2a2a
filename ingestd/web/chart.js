// Charts as SVG: bars side by side, or lines that are broken where there is no figure. The colours come from page.css.

import { h, s, table } from "/web/dom.js";
import * as format from "/web/format.js";

const HEIGHT = 220;
const EDGE = { left: 46, right: 8, top: 8, bottom: 22 };

/**
 * `points` are {at: Date, until: Date, values: [number or null, ...]}, one value for each of `names`; with
 * `spread`, an array of the same length, bars are hatched whose energy is spread.
 * with `isPartial`, they are paler: their time has not ended. `kind` is "bars" or "lines"; `limit` draws a broken line; `bands` are {start, end} with a
 * background of their own, the charging sessions. `range` is the least that the axis shows.
 */
export function chart({ title, unit, names, points, kind = "lines", range = null, limit = null, digits = 1, wide = false, bands = [] }) {
  const known = points.flatMap((point) => point.values).filter((value) => value !== null);
  if (!known.length) return h("p", { class: "empty" }, `${title}: no figures in this window.`);
  const width = widthOf(wide);
  const [from, to] = [points[0].at, points.at(-1).until];
  const scale = nice([Math.min(...(range ?? (kind === "bars" ? [0] : [])), ...known), Math.max(...(range ?? []), ...known)]);
  const x = (date) => EDGE.left + ((date - from) / (to - from)) * (width - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - ((value - scale.low) / (scale.high - scale.low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const said = (point) =>
    `${format.minute(point.at)}: ${names.map((name, i) => `${name} ${figure(point, i, digits, unit)}`).join(", ")}`;
  const hatch = `hatch-${title.replace(/\W+/g, "-")}`;
  const isHatched = points.some((point) => point.spread?.some(Boolean));
  const svg = s(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": summary(title, unit, names, points, digits) },
    bands.map((band) => {
      const [begin, end] = [x(Math.max(from, new Date(band.start))), x(Math.min(to, new Date(band.end)))];
      return s("rect", { class: "band", x: begin, y: EDGE.top, width: Math.max(1, end - begin), height: HEIGHT - EDGE.top - EDGE.bottom });
    }),
    scale.ticks.map((tick) => [
      s("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(tick), y2: y(tick) }),
      s("text", { x: EDGE.left - 6, y: y(tick) + 4, "text-anchor": "end" }, format.number(tick, scale.digits)),
    ]),
    times(from, to).map((date) =>
      s("text", { x: x(date), y: HEIGHT - 6, "text-anchor": "middle" }, to - from > 50 * 3600e3 ? format.day(date) : format.clock(date))),
    isHatched ? s("pattern", { id: hatch, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("rect", { class: "stripe", width: 2.5, height: 5 })) : null,
    names.map((_, i) => (kind === "bars" ? bars(points, i, names.length, x, y, hatch) : lines(points, i, x, y))),
    limit !== null && limit >= scale.low && limit <= scale.high
      ? s("line", { class: "limit", x1: EDGE.left, x2: width - EDGE.right, y1: y(limit), y2: y(limit) }) : null,
    points.map((point) =>
      s("rect", { class: "hit", x: x(point.at), y: EDGE.top, width: Math.max(0.5, x(point.until) - x(point.at)), height: HEIGHT - EDGE.top - EDGE.bottom },
        s("title", {}, said(point)))),
  );
  return h(
    "figure",
    {},
    h("figcaption", { class: "key" }, names.map((name, i) => h("span", { class: `c${i}` }, `${name} (${unit})`)),
      bands.length ? h("span", { class: "band" }, "charging session") : null, isHatched ? h("span", { class: "spread" }, "spread") : null,
      points.some((point) => point.isPartial) ? h("span", { class: "partial" }, "so far") : null),
    svg,
    isHatched ? h("p", { class: "soft" }, "Hatched: at least a part of this energy comes from a reading longer than a quarter of an hour, and is spread evenly over its time.") : null,
    asTable(title, unit, names, points, digits),
  );
}

/** The value of a point in words. */
function figure(point, i, digits, unit = "") {
  return `${format.number(point.values[i], digits, unit)}${point.spread?.[i] ? " (spread)" : ""}${point.isPartial ? " (so far)" : ""}`;
}

function bars(points, i, of, x, y, hatch) {
  return points.filter((point) => point.values[i] !== null).map((point) => {
    const room = (x(point.until) - x(point.at)) * 0.86;
    const [top, bottom] = [y(Math.max(0, point.values[i])), y(Math.min(0, point.values[i]))];
    const place = { x: x(point.at) + (room / of) * i, y: top, width: Math.max(0.5, room / of), height: Math.max(0.5, bottom - top) };
    const bar = s("rect", { class: point.isPartial ? `bar partial c${i}` : `bar c${i}`, ...place });
    return point.spread?.[i] ? [bar, s("rect", { class: "spread", fill: `url(#${hatch})`, ...place })] : bar;
  });
}

function lines(points, i, x, y) {
  const runs = [[]];
  for (const point of points) {
    if (point.values[i] === null) runs.push([]);
    else runs.at(-1).push([x(new Date((+point.at + +point.until) / 2)), y(point.values[i])]);
  }
  return runs.filter((run) => run.length).map((run) =>
    run.length === 1
      ? s("circle", { class: `dot c${i}`, cx: run[0][0], cy: run[0][1], r: 2.5 })
      : s("path", { class: `line c${i}`, d: `M${run.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L")}` }));
}

/** In the units of the picture, so that its letters have the size of the others on a phone, too. */
export function widthOf(wide = false) {
  if (innerWidth < 700) return 340;
  return wide && innerWidth > 900 ? 1180 : 580;
}

/** Round numbers for the axis. */
function nice([low, high]) {
  if (high - low < 1e-9) [low, high] = [low > 0 ? low * 0.9 : low - 1, high > 0 ? high * 1.1 : high + 1];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const ticks = [];
  for (let n = Math.floor(low / step + 1e-9); n * step < high + step * 0.999; n += 1) ticks.push(Number((n * step).toPrecision(12)));
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (step / power === 2.5 ? 1 : 0));
  return { low: ticks[0], high: ticks.at(-1), ticks, digits };
}

/** Whole hours or midnights of the browser's zone. */
function times(from, to) {
  const hours = [0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 72, 168, 336, 720, 2160].find((one) => (to - from) / 3600e3 / one <= (innerWidth < 700 ? 4 : 7)) ?? 4320;
  const date = new Date(from);
  date.setHours(0, 0, 0, 0);
  const found = [];
  while (date < to) {
    const at = new Date(date);
    if (at >= from && (at - from) / (to - from) < 0.97 && (at - from) / (to - from) > 0.03) found.push(at);
    if (hours < 24) date.setTime(date.getTime() + hours * 3600e3);
    else date.setDate(date.getDate() + hours / 24);
  }
  return found;
}

function summary(title, unit, names, points, digits) {
  const parts = names.map((name, i) => {
    const known = points.map((point) => point.values[i]).filter((value) => value !== null);
    if (!known.length) return `${name}: no figures`;
    return `${name} from ${format.number(Math.min(...known), digits)} to ${format.number(Math.max(...known), digits, unit)}`;
  });
  return `${title}. ${parts.join("; ")}.`;
}

/** The same figures as a table, made when it is opened. */
function asTable(title, unit, names, points, digits) {
  const place = h("div");
  const show = (event) => {
    if (!event.target.open || place.firstChild) return;
    place.append(table(title, [
      { title: "From", value: (point) => format.minute(point.at) },
      ...names.map((name, i) => ({ title: `${name} (${unit})`, number: true, value: (point) => figure(point, i, digits) })),
    ], points));
  };
  return h("details", { ontoggle: show, "data-name": title }, h("summary", {}, "Figures as a table"), place);
}

const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

/** Points of /series as {at, until, values, spread, isPartial}: a partial one has not ended. */
export function spans(series, values, spread = () => null) {
  const length = Number.parseInt(series.bucket, 10) * UNITS[series.bucket.at(-1)] * 1000;
  return series.points.map((point, i) => {
    const at = new Date(point.start);
    const until = new Date(series.points[i + 1]?.start ?? +at + length);
    return { at, until, values: values(point), spread: spread(point), isPartial: +until > Date.now() };
  });
}
