// Two texts, and the lines in which they differ.
import { aroundChanges, compareLines } from "./lines.js";
import { visible } from "./text.js";
import { html, useMemo } from "./ui.js";

const SIGNS = { added: "+", removed: "−", same: "" };
const alone = (text, kind, side) => text.split("\n").map((line, at) => ({ kind, text: line, [side]: at + 1 }));

/** The lines that differ, with a few around them. `before` or `after` is null where there is no such text. */
export function Differences({ before, after, label }) {
  const lines = useMemo(() => {
    if (before === null) return alone(after ?? "", "added", "after");
    if (after === null) return alone(before, "removed", "before");
    return aroundChanges(compareLines(before, after));
  }, [before, after]);
  return html`<div class="diff" tabindex="0" role="region" aria-label=${label}>
    ${lines.map((one, at) => one === null
      ? html`<div key=${at} class="gap" aria-hidden="true">⋯</div>`
      : html`<div key=${at} class=${one.kind}><span class="number">${one.before ?? ""}</span><span class="number">${one.after ?? ""}</span><span class="sign">${SIGNS[one.kind]}</span><code><bdi>${visible(one.text, true)}</bdi></code></div>`)}
  </div>`;
}
