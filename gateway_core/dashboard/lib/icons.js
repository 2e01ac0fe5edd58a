// Icons of 16 by 16, drawn as lines in the colour of the text beside them.
import { html } from "./ui.js";

const PATHS = {
  overview: "M2 9h3l2-5 3 9 2-4h2",
  servers: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01",
  tools: "M2.5 2.500h4.500v4.500h-4.500zM9 2.500h4.500v4.500h-4.500zM2.5 9h4.500v4.500h-4.500zM11.25 9v4.500M9 11.250h4.5",
  calls: "M2.5 5h10M10 2.500l2.5 2.5-2.5 2.500M13.5 11h-10M6 8.500l-2.5 2.5 2.5 2.5",
  agents: "M8 7.500a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 13.500c.4-2.8 2.4-4 5-4s4.6 1.2 5 4",
  plugins: "M8 2l6 3-6 3-6-3zM2 8l6 3 6-3M2 11l6 3 6-3",
  configuration: "M4 1.500h5.500l3 3v10h-8.500zM9.5 1.500v3h3M6 8h4.500M6 11h4.5",
  questions: "M2.5 3h11v8h-6l-3 2.500v-2.500h-2zM8 8.500h.01M6.7 5.600c.2-1.3 2.7-1.2 2.6.1 0 .8-1.3.8-1.3 1.6",
  menu: "M2 4h12M2 8h12M2 12h12",
  close: "M4 4l8 8M12 4l-8 8",
  sun: "M8 5.250a2.75 2.75 0 1 0 0 5.5 2.75 2.75 0 0 0 0-5.500zM8 1.500v1.250M8 13.250v1.250M1.5 8h1.250M13.25 8h1.250M3.4 3.400l.9.900M11.7 11.700l.9.900M3.4 12.600l.9-.9M11.7 4.300l.9-.9",
  moon: "M13 9.500a5.5 5.5 0 0 1-6.5-6.5 5.5 5.5 0 1 0 6.5 6.500z",
  system: "M2 3h12v8h-12zM6 13.500h4",
  keyboard: "M1.5 4h13v8h-13zM4 6.500h.01M6.7 6.500h.01M9.3 6.500h.01M12 6.500h.01M5 9.500h6",
  search: "M7 11.500a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.5 10.500l3.5 3.5",
  check: "M3 8.500l3.5 3.5 6.5-8",
  external: "M6 3h-3v10h10v-3M9 2.500h4.500v4.500M13.5 2.500l-6 6",
  refresh: "M13.5 8a5.5 5.5 0 1 1-1.7-4M13.5 2v3h-3",
  leave: "M9 3h-6v10h6M6.500 8h7M11 5.500l2.5 2.5-2.5 2.500",
  chevron: "M6 3.500l4.5 4.5-4.5 4.5",
};

export const Icon = ({ name, size = 16 }) =>
  html`<svg class="icon" width=${size} height=${size} viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[name] ?? PATHS.menu} /></svg>`;

// Shapes of states, so that they differ by more than their colour.
const SHAPES = {
  ok: html`<circle cx="5" cy="5" r="4" />`,
  info: html`<circle class="hollow" cx="5" cy="5" r="3.25" />`,
  warn: html`<path d="M5 0.750l4.6 8.250h-9.200z" />`,
  bad: html`<path d="M5 0.300l4.7 4.7-4.7 4.7-4.7-4.700z" />`,
  busy: html`<path class="hollow" d="M5 1.500a3.5 3.5 0 1 1-3.5 3.5" />`,
  idle: html`<rect x="1" y="4" width="8" height="2" rx="1" />`,
};

/** A state as shape and word. `kind`: ok, info, warn, bad, busy or idle. */
export const Status = ({ kind = "idle", children, title }) =>
  html`<span class=${`status is-${kind}`} title=${title}>
    <svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true">${SHAPES[kind] ?? SHAPES.idle}</svg>${children}
  </span>`;
