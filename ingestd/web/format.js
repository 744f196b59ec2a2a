// Numbers with units, and times in the zone of the browser.

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

const LOCALE = "en-GB";
const TIME = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "medium" });
const MINUTE = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });
const SHORT = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const CLOCK = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });

export function number(value, digits = 1, unit = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = value.toLocaleString(LOCALE, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return unit ? `${text}\u00a0${unit}` : text;
}

export const count = (value) => number(value, 0);
export const plural = (value, word) => `${count(value)} ${value === 1 ? word : `${word}s`}`;
export function kwh(value) {
  const size = Math.abs(value ?? 0);
  return number(value, size < 1 ? 3 : size < 1000 ? 1 : 0, "kWh");
}
export const percent = (ratio) => (ratio === null || ratio === undefined ? "–" : number(ratio * 100, 1, "%"));

export const time = (text) => (text ? TIME.format(new Date(text)) : "–");
export const minute = (text) => (text ? MINUTE.format(new Date(text)) : "–");
/** Without the year. */
export const short = (text) => (text ? SHORT.format(new Date(text)) : "–");
export const clock = (date) => CLOCK.format(date);
export const day = (date) => DAY.format(date);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${whole}\u00a0s`;
  if (whole < 5400) return `${Math.round(whole / 60)}\u00a0min`;
  if (whole < 172800) return `${number(whole / 3600, 1)}\u00a0h`;
  return `${Math.round(whole / 86400)}\u00a0days`;
}

export const ago = (text) => (text ? `${duration((Date.now() - new Date(text)) / 1000)} ago` : "never");
export const between = (start, end) => duration((new Date(end) - new Date(start)) / 1000);

/** For <input type="datetime-local">. */
export function local(date) {
  const shifted = new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  return shifted.toISOString().slice(0, 16);
}
