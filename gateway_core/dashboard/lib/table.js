// A table to sort, filter and walk through with the keyboard. Of a long one only the visible rows are rendered.
import { Icon } from "./icons.js";
import { count } from "./text.js";
import { cls, html, useId, useLayoutEffect, useMemo, useRef, useState } from "./ui.js";

const ROW = 36; // px; `--row` of the style sheet
const WHOLE = 150; // up to this many rows, all are rendered
const BEYOND = 12; // rows rendered above and below the visible ones

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const compare = (one, other) =>
  one == null || other == null ? Number(one == null) - Number(other == null)
  : typeof one === "number" && typeof other === "number" ? one - other
  : collator.compare(String(one), String(other));

/**
 * `columns`: [{key, title, value(row), cell(row), align: "end", width, narrow: false}]; `value` sorts and is searched,
 * `cell` renders and is `value` by default, `narrow: false` hides the column on narrow screens.
 * `rows` have keys by `keyOf`. `onOpen(row)`: a click, or Enter on the row. `sort`: {key, down}, null for the given order.
 * `filter`: the text of the filter field if the page holds it; with `onFilter`. `tools`: more controls beside it.
 */
export function Table({ label, columns, rows, keyOf, onOpen, sort: first = null, filter: given, onFilter, tools, empty, height, noFilter = false, selected }) {
  const [sort, setSort] = useState(first);
  const [own, setOwn] = useState("");
  const filter = given ?? own;
  const [top, setTop] = useState(0);
  const frame = useRef(null);
  const [room, setRoom] = useState(600);
  const id = useId();

  const found = useMemo(() => {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const match = (row) => {
      const text = columns.map((column) => (column.value ? column.value(row) : "") ?? "").join("\u0000").toLowerCase();
      return words.every((word) => text.includes(word));
    };
    return words.length ? rows.filter(match) : rows;
  }, [rows, filter, columns]);
  const ordered = useMemo(() => {
    const column = sort && columns.find((one) => one.key === sort.key);
    if (!column) return found;
    const sign = sort.down ? -1 : 1;
    return found
      .map((row, at) => [column.value(row), at, row])
      .sort(([one, at], [other, otherAt]) => {
        if (one == null || other == null) return compare(one, other) || at - otherAt; // unknown values come last
        return sign * compare(one, other) || at - otherAt;
      })
      .map(([, , row]) => row);
  }, [found, sort, columns]);

  const long = ordered.length > WHOLE;
  useLayoutEffect(() => {
    if (!long || !frame.current) return undefined;
    const sizes = new ResizeObserver(([entry]) => setRoom(entry.contentRect.height));
    sizes.observe(frame.current);
    return () => sizes.disconnect();
  }, [long]);
  // Before the rows are painted: later it would undo what the user has scrolled.
  useLayoutEffect(() => {
    if (frame.current) frame.current.scrollTop = 0;
    setTop(0);
  }, [filter, sort]);

  const from = long ? Math.max(0, Math.min(Math.floor(top / ROW) - BEYOND, ordered.length - 1)) : 0;
  const to = long ? Math.min(ordered.length, from + Math.ceil(room / ROW) + 2 * BEYOND) : ordered.length;
  const order = (key) => setSort((now) => (now?.key !== key ? { key, down: false } : now.down ? first : { key, down: true }));

  function keys(event) {
    const row = event.target.closest?.("tr[data-at]");
    if (!row || event.target !== row) return;
    const at = Number(row.dataset.at);
    const move = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (move) {
      event.preventDefault();
      event.stopPropagation();
      const next = row.parentElement.querySelector(`tr[data-at="${at + move}"]`);
      next?.focus();
      next?.scrollIntoView({ block: "nearest" });
    } else if ((event.key === "Enter" || event.key === " ") && onOpen) {
      event.preventDefault();
      onOpen(ordered[at]);
    }
  }

  const spacer = (rowCount) => rowCount > 0 && html`<tr aria-hidden="true" class="spacer"><td colspan=${columns.length} style=${{ height: `${rowCount * ROW}px` }}></td></tr>`;
  return html`<div class="table">
    ${(!noFilter || tools) &&
    html`<div class="tools">
      ${!noFilter &&
      html`<label class="search" for=${id}><${Icon} name="search" size="14" /><span class="hidden">Filter ${label}</span>
        <input id=${id} type="search" data-filter placeholder="Filter" value=${filter} autocomplete="off" spellcheck=${false}
          onInput=${(event) => (onFilter ?? setOwn)(event.currentTarget.value)} /></label>`}
      ${tools}
      <span class="count" role="status">${filter ? `${count(found.length, "row")} of ${rows.length.toLocaleString("en-US")}` : count(rows.length, "row")}</span>
    </div>`}
    <div class=${cls("scroll", long && "long")} style=${height ? { maxHeight: height } : undefined} ref=${frame} tabindex="0" role="region" aria-label=${`${label}, rows`}
      onScroll=${long ? (event) => setTop(event.currentTarget.scrollTop) : undefined}>
      <table aria-rowcount=${long ? ordered.length + 1 : undefined} onKeyDown=${keys}>
        <caption class="hidden">${label}</caption>
        <thead>
          <tr>
            ${columns.map(({ key, title, value, align, width, narrow }) => {
              const sorted = sort?.key === key ? (sort.down ? "descending" : "ascending") : undefined;
              return html`<th key=${key} scope="col" class=${cls(align, narrow === false && "wide-only")} aria-sort=${sorted} style=${width ? { width } : undefined}>
                ${value && title ? html`<button type="button" onClick=${() => order(key)}>${title}<span class="arrow" aria-hidden="true">${sorted ? (sort.down ? "↓" : "↑") : ""}</span></button>` : title || html`<span class="hidden">Actions</span>`}
              </th>`;
            })}
          </tr>
        </thead>
        <tbody>
          ${spacer(from)}
          ${ordered.slice(from, to).map((row, index) => {
            const key = keyOf(row);
            return html`<tr key=${key} data-at=${from + index} aria-rowindex=${long ? from + index + 2 : undefined} tabindex=${onOpen ? 0 : undefined}
              class=${cls(onOpen && "opens", selected === key && "selected")}
              onClick=${onOpen ? (event) => event.target.closest("button, a, input, select") ?? onOpen(row) : undefined}>
              ${columns.map(({ key: name, cell, value, align, narrow }) => html`<td key=${name} class=${cls(align, narrow === false && "wide-only")}>${cell ? cell(row) : value(row)}</td>`)}
            </tr>`;
          })}
          ${spacer(ordered.length - to)}
        </tbody>
      </table>
      ${!ordered.length && html`<div class="none">${filter && rows.length ? html`<p class="state">No row matches the filter.</p>` : (empty ?? html`<p class="state">Nothing here.</p>`)}</div>`}
    </div>
  </div>`;
}
