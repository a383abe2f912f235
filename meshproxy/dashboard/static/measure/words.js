/** Numbers, times and names as a person reads them; pure. */

const NONE = "\u2013";
const THIN = "\u202f"; // a narrow space that does not break, between a number and its unit

/** Round to a few digits: 0.123, 1.23, 12.3, 123. */
function short(value) {
  if (value >= 99.95) return String(Math.round(value));
  return value >= 9.995 ? trimmed(value.toFixed(1)) : trimmed(value.toFixed(value >= 0.995 ? 2 : 3));
}

function trimmed(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** A count: 999, 1.2k, 12k, 3.4M. */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 1000) return Number.isInteger(value) ? String(value) : trimmed(value.toFixed(value < 10 ? 1 : 0));
  const [unit, by] = value < 999_500 ? ["k", 1e3] : value < 999_500_000 ? ["M", 1e6] : ["G", 1e9];
  const scaled = value / by;
  return `${scaled < 9.95 ? trimmed(scaled.toFixed(1)) : Math.round(scaled)}${unit}`;
}

/** A rate of so many per second; the rare ones per minute or hour. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return NONE;
  if (perSecond === 0) return "0/s";
  if (perSecond >= 0.1) return `${twoFigures(perSecond)}/s`;
  if (perSecond * 60 >= 0.95) return `${twoFigures(perSecond * 60)}/min`;
  return `${twoFigures(Math.max(perSecond * 3600, 1))}/h`;
}

function twoFigures(value) {
  return value < 10 ? String(Number(value.toPrecision(2))) : count(Math.round(value));
}

/** A duration of something that is waited for: 0.8 ms, 12 ms, 1.24 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 0.9995) return `${short(Math.round(seconds * 1e5) / 100)}${THIN}ms`;
  return seconds < 100 ? `${short(seconds)}${THIN}s` : span(seconds);
}

/** A share from 0 to 1 in per cent; never rounded to all or to none when it is not. */
export function percent(share) {
  if (share === null || share === undefined) return NONE;
  if (share > 0 && share < 0.001) return "<0.1%";
  if (share < 1 && share > 0.999) return ">99.9%";
  return `${trimmed((share * 100).toFixed(share > 0.0995 && share < 0.9005 ? 0 : 1))}%`;
}

/** How many times as much: 4x, 1.5x. */
export function times(factor) {
  if (factor === null || factor === undefined || !Number.isFinite(factor)) return NONE;
  return `${factor < 9.5 ? trimmed(factor.toFixed(1)) : count(Math.round(factor))}\u00d7`;
}

/** A size in bytes, in units of 1,024. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return NONE;
  let scaled = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (scaled < 999.5) return `${unit === "B" ? Math.round(scaled) : short(scaled)}${THIN}${unit}`;
    scaled /= 1024;
  }
  return `${short(scaled)}${THIN}TiB`;
}

const SPANS = [
  ["day", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
];

/** A stretch of time in its largest unit, and the next one where that matters: 3 days, 5 h 20 min, 40 s. */
export function span(seconds) {
  const whole = Math.max(Math.round(seconds), 0);
  const first = SPANS.findIndex(([, length]) => whole >= length);
  if (first < 0) return `0${THIN}s`;
  const [unit, length] = SPANS[first];
  const many = Math.floor(whole / length);
  const told = `${many}${THIN}${unit === "day" && many !== 1 ? "days" : unit}`;
  const next = SPANS[first + 1];
  const rest = next ? Math.floor((whole - many * length) / next[1]) : 0;
  return many < 4 && rest > 0 ? `${told} ${rest}${THIN}${next[0]}` : told;
}

function twoDigits(number) {
  return String(number).padStart(2, "0");
}

/** The time of day in this browser's zone, with the date where it is not that of `now` (Unix seconds). */
export function clock(at, now, { seconds = false } = {}) {
  const then = new Date(at * 1000);
  const today = new Date(now * 1000);
  const time = `${twoDigits(then.getHours())}:${twoDigits(then.getMinutes())}`;
  const told = seconds ? `${time}:${twoDigits(then.getSeconds())}` : time;
  return then.toDateString() === today.toDateString() ? told : `${day(at)} ${told}`;
}

/** A date: 2026-11-23. */
export function day(at) {
  const then = new Date(at * 1000);
  return `${then.getFullYear()}-${twoDigits(then.getMonth() + 1)}-${twoDigits(then.getDate())}`;
}

/** The name of a service as people say it: `/orders` is orders, an identity of elsewhere keeps its trust domain. */
export function serviceName(name) {
  if (name.startsWith("spiffe://")) return name.slice("spiffe://".length);
  return name.startsWith("/") && name.length > 1 ? name.slice(1) : name;
}
