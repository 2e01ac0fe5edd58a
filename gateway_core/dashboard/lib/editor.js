// A field for TOML: line numbers, colours, marks at lines with problems. The field itself is an ordinary one.
import { cls, html, useMemo } from "./ui.js";

const TOKEN = /("""|'''|"(?:[^"\\]|\\.)*"|'[^']*')|(#.*$)|(\$\{[^}]*\})|\b(true|false|\d[\d_.:TZ+-]*)\b/g;
const TABLE = /^\s*\[.*\]\s*(#.*)?$/;
const KEY = /^(\s*)([A-Za-z0-9_."'-]+)(\s*=)/;

function coloured(line) {
  if (TABLE.test(line)) return html`<span class="t-table">${line}</span>`;
  const parts = [];
  let rest = line;
  const key = KEY.exec(line);
  if (key) {
    parts.push(key[1], html`<span class="t-key">${key[2]}</span>`, key[3]);
    rest = line.slice(key[0].length);
  }
  let at = 0;
  for (const found of rest.matchAll(TOKEN)) {
    parts.push(rest.slice(at, found.index));
    const kind = found[2] ? "t-comment" : found[3] ? "t-variable" : found[1] ? "t-string" : "t-value";
    parts.push(html`<span class=${kind}>${found[0]}</span>`);
    at = found.index + found[0].length;
  }
  parts.push(rest.slice(at));
  return parts;
}

/** `marks`: line number -> kind and text of what is wrong there. `place`: a ref to the field. */
export function Editor({ label, value, onInput, readOnly, marks, place, describedBy }) {
  const lines = useMemo(() => value.split("\n"), [value]);
  const colours = useMemo(() => lines.map(coloured), [lines]);
  return html`<div class="editor" tabindex=${readOnly ? 0 : undefined} role=${readOnly ? "region" : undefined} aria-label=${readOnly ? label : undefined}>
    <div class="gutter" aria-hidden="true">
      ${lines.map((_, at) => html`<div key=${at} class=${cls(marks.has(at + 1) && "marked")}>${marks.has(at + 1) ? "◆" : ""}<span>${at + 1}</span></div>`)}
    </div>
    <div class="field">
      <pre aria-hidden="true">${colours.map((line, at) => html`<div key=${at} class=${cls(marks.has(at + 1) && "marked")}>${line}${"\n"}</div>`)}</pre>
      <textarea aria-label=${label} aria-describedby=${describedBy} ref=${place} value=${value} readonly=${readOnly} spellcheck=${false} autocomplete="off" autocapitalize="off" wrap="off"
        onInput=${(event) => onInput(event.currentTarget.value)}></textarea>
    </div>
  </div>`;
}

/** Put the caret at a line of the field, and make the line visible. */
export function showLine(field, line) {
  const lines = field.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  field.focus({ preventScroll: true });
  field.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  const frame = field.closest(".editor");
  const height = field.clientHeight / Math.max(1, lines.length);
  frame.scrollTop = Math.max(0, (line - 1) * height - frame.clientHeight / 3);
  frame.scrollIntoView({ block: "nearest" });
}
