// Plugins: their order, their settings, and what their hooks cost.
import { Drawer, Empty, Facts, Heading, Loaded, Panel, Status } from "../lib/parts.js";
import { go } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Table } from "../lib/table.js";
import { Block, Text, compact, count, number, percent, visible } from "../lib/text.js";
import { html, useMemo } from "../lib/ui.js";

/** Seconds and calls of all hooks of a plugin. */
function spent(plugin) {
  const times = Object.values(plugin.times ?? {});
  if (!times.length) return null;
  const calls = Math.max(...times.map((it) => it.calls));
  const seconds = times.reduce((sum, it) => sum + it.seconds, 0);
  return { calls, seconds, each: calls ? seconds / calls : 0 };
}

const microseconds = (seconds) => (seconds < 0.001 ? `${(seconds * 1e6).toFixed(seconds < 1e-5 ? 1 : 0)} µs` : `${(seconds * 1e3).toFixed(1)} ms`);

const Share = ({ part }) =>
  html`<span class="share"><svg width="64" height="6" aria-hidden="true"><rect class="track" width="64" height="6" rx="3" /><rect class="fill" width=${Math.max(part > 0 ? 2 : 0, part * 64).toFixed(1)} height="6" rx="3" /></svg> ${percent(part)}</span>`;

const COLUMNS = [
  { key: "order", title: "#", value: (row) => row.order, cell: (row) => html`<span class="hint">${row.order}</span>`, width: "48px" },
  { key: "name", title: "Plugin", value: (row) => row.name, cell: (row) => html`<span class="name"><${Text} value=${row.name} /></span>${row.warnings.length > 0 && html` <${Status} kind="warn">${count(row.warnings.length, "warning")}<//>`}` },
  { key: "version", title: "Version", value: (row) => row.version, cell: (row) => html`<${Text} value=${row.version ?? "–"} limit=${20} />`, narrow: false },
  { key: "hooks", title: "Hooks", value: (row) => row.hooks.join(" "), cell: (row) => html`${row.hooks.slice(0, 4).map((hook) => html`<span class="tag" key=${hook}>${hook}</span> `)}${row.hooks.length > 4 && `+${row.hooks.length - 4}`}`, narrow: false },
  { key: "on_error", title: "If it fails", value: (row) => row.on_error, cell: (row) => ON_ERROR[row.on_error] ?? visible(row.on_error), narrow: false },
  { key: "calls", title: "Calls", align: "end", value: (row) => row.spent?.calls, cell: (row) => compact(row.spent?.calls), narrow: false },
  { key: "each", title: "Per call", align: "end", value: (row) => row.spent?.each, cell: (row) => (row.spent ? microseconds(row.spent.each) : "–") },
  { key: "share", title: "Share of the time", value: (row) => row.spent?.seconds, cell: (row) => (row.spent ? html`<${Share} part=${row.part} />` : "–"), narrow: false },
];

const ON_ERROR = { reject: "call refused", ignore: "call goes on" };

export default function Plugins({ parts }) {
  const of = useResource("/admin/plugins", { every: 4000, on: ["reload"] });
  return html`<${Heading} title="Plugins" note="In the order in which they see a call. Every decision of the gateway is made by one of them." />
    <${Loaded} of=${of} what="Plugins">${({ plugins }) => html`<${Content} plugins=${plugins} open=${parts[0]} />`}<//>`;
}

function Content({ plugins, open }) {
  const rows = useMemo(() => {
    const found = plugins.map((plugin, at) => ({ ...plugin, order: at + 1, hooks: plugin.hooks ?? [], warnings: plugin.warnings ?? [], spent: spent(plugin) }));
    const total = found.reduce((sum, row) => sum + (row.spent?.seconds ?? 0), 0);
    return found.map((row) => ({ ...row, part: total && row.spent ? row.spent.seconds / total : 0 }));
  }, [plugins]);
  const measured = rows.some((row) => row.spent);
  const plugin = rows.find((row) => row.name === open);
  return html`
    ${!measured && rows.length > 0 && html`<p class="tip"><${Status} kind="info">What hooks cost is not measured.<//> Set <code>hook_times = true</code> for the plugin <code>observe_metrics</code> to see it here.</p>`}
    <${Panel} flush>
      <${Table} label="plugins" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.name} noFilter=${rows.length < 8} onOpen=${(row) => go("plugins", [row.name])} selected=${open}
        empty=${html`<${Empty} title="No plugin is enabled" icon="plugins">Calls go to the first server that has the tool.<//>`} />
    <//>
    ${plugin && html`<${Details} of=${plugin} />`}`;
}

function Details({ of }) {
  const times = Object.entries(of.times ?? {});
  return html`<${Drawer} title=${visible(of.name)} onClose=${() => go("plugins")}>
    <${Facts} rows=${[
      ["Order", `${of.order}`],
      ["Version", of.version && visible(of.version)],
      ["If it fails", ON_ERROR[of.on_error] ?? visible(of.on_error)],
      ["Hooks", of.hooks.map((hook) => html`<span class="tag" key=${hook}>${visible(hook)}</span> `)],
    ]} />
    ${of.warnings.length > 0 && html`<section class="notice is-warn"><h3>Warnings</h3><ul>${of.warnings.map((text) => html`<li key=${text}><${Text} value=${text} limit=${800} /></li>`)}</ul></section>`}
    <section>
      <h3>Cost</h3>
      ${times.length
        ? html`<table class="plain"><thead><tr><th scope="col">Hook</th><th scope="col" class="end">Calls</th><th scope="col" class="end">Per call</th><th scope="col" class="end">In sum</th></tr></thead>
            <tbody>${times.map(([hook, { calls, seconds }]) => html`<tr key=${hook}><td>${visible(hook)}</td><td class="end">${number(calls)}</td><td class="end">${calls ? microseconds(seconds / calls) : "–"}</td><td class="end">${microseconds(seconds)}</td></tr>`)}</tbody></table>`
        : html`<p class="hint">Not measured. <code>hook_times = true</code> of <code>observe_metrics</code> measures it.</p>`}
    </section>
    <section>
      <h3>Settings</h3>
      ${Object.keys(of.settings).length
        ? html`<${Block} value=${JSON.stringify(of.settings, null, 2)} label="Settings" /><p class="hint">Secrets are hidden.</p>`
        : html`<p class="hint">It has none.</p>`}
    </section>
  <//>`;
}
