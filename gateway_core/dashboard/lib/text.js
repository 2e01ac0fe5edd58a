// Text and numbers for people. Texts come from servers and agents, so anything can be in them.
import { html, useState } from "./ui.js";

// Characters that show nothing or change how others are shown: controls, direction marks, zero-width characters, tags.
const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]|[\ud800-\udfff]/gu;
const KEPT_IN_BLOCKS = /[\n\t]/;

/** The code point of a character: `U+202E`. */
const codePoint = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A text in which no character is invisible. `block`: line ends and tabs stay. */
export function visible(text, block = false) {
  return String(text ?? "").replace(INVISIBLE, (found) =>
    block && KEPT_IN_BLOCKS.test(found) ? found : `⟨${codePoint(found)}⟩`,
  );
}

/** The beginning of a text, and how many characters are missing. */
export function cut(text, limit) {
  const whole = String(text ?? "");
  if (whole.length <= limit) return [whole, 0];
  const end = /[\ud800-\udbff]/.test(whole[limit - 1]) ? limit - 1 : limit;
  return [whole.slice(0, end), whole.length - end];
}

/** One line of text from outside: cut, isolated, with marks for invisible characters. */
export function Text({ value, limit = 200, mono = false }) {
  const [shown, missing] = cut(value, limit);
  const title = missing ? visible(cut(value, 2000)[0]) : undefined;
  return html`<bdi class=${mono ? "mono" : undefined} title=${title}>${visible(shown)}${missing ? "…" : ""}</bdi>`;
}

/** Text of some lines from outside, in the type of the page; the element around it keeps the lines. */
export function Prose({ value, limit = 3000 }) {
  const [shown, missing] = cut(value, limit);
  return html`<bdi class="prose">${visible(shown, true)}${missing ? "…" : ""}</bdi>`;
}

/** A block of text from outside. A long one opens in full with a button, up to a bound. */
export function Block({ value, limit = 4000, label = "text" }) {
  const [open, setOpen] = useState(false);
  const [shown, missing] = cut(value, open ? 400_000 : limit);
  return html`<div class="block">
    <pre tabindex="0" role="region" aria-label=${label}><bdi>${visible(shown, true)}</bdi></pre>
    ${missing > 0 &&
    html`<p class="hint">
      ${count(missing, "character")} more
      ${!open && html` <button class="link" onClick=${() => setOpen(true)}>show</button>`}
    </p>`}
  </div>`;
}

const whole = new Intl.NumberFormat("en-US");
const compactFormat = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** A number with thousands separators. */
export const number = (value) => (value == null ? "–" : whole.format(value));
/** A large number in short form: 12.3K. */
export const compact = (value) => (value == null ? "–" : value < 10_000 ? whole.format(value) : compactFormat.format(value));
/** A number with its noun: `1 call`, `2 calls`. */
export const count = (value, noun, plural = `${noun}s`) => `${number(value)} ${value === 1 ? noun : plural}`;
/** A rate or another small figure. */
export const decimal = (value) =>
  value == null ? "–" : value === 0 ? "0" : value < 0.1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : number(Math.round(value));
/** A part of one: `1.2 %`. */
export const percent = (part) =>
  part == null ? "–" : part === 0 ? "0 %" : part < 0.001 ? "< 0.1 %" : `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`;

/** Milliseconds, in a fitting unit. */
export function milliseconds(value) {
  if (value == null) return "–";
  if (value === 0) return "0 ms";
  if (value < 1) return `${value < 0.1 ? "< 0.1" : value.toFixed(1)} ms`;
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : duration(value / 1000);
}

/** Seconds, in one or two fitting units. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return milliseconds(seconds * 1000);
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = units.findIndex(([, size]) => seconds >= size);
  const [[unit, size], next] = [units[at], units[at + 1]];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[0]}` : ""}`;
}

/** Bytes, in binary units. */
export function bytes(value) {
  if (value == null) return "–";
  const at = value < 1024 ? 0 : Math.min(3, Math.floor(Math.log2(value) / 10));
  const size = value / 1024 ** at;
  return `${at && size < 10 ? size.toFixed(1) : Math.round(size)} ${["B", "KiB", "MiB", "GiB"][at]}`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
/** Time of day of a Unix time in seconds. */
export const timeOfDay = (seconds) => (seconds == null ? "–" : clock.format(new Date(seconds * 1000)));
/** How long ago a Unix time was. */
export function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  return past < 2 ? "now" : past < 60 ? `${Math.floor(past)} s ago` : `${duration(Math.floor(past)).split(" ").slice(0, 2).join(" ")} ago`;
}
