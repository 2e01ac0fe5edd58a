// Tools: who serves what, how conflicts of names were resolved, and one entry with its definition, to try out.
import { query } from "../lib/api.js";
import { Empty, Failure, Heading, Loaded, Loading, Panel, Status } from "../lib/parts.js";
import { address, go } from "../lib/router.js";
import { fieldOf, typeOf } from "../lib/schema.js";
import { useResource } from "../lib/store.js";
import { Table } from "../lib/table.js";
import { Block, Prose, Text, count, visible } from "../lib/text.js";
import { Trial, useTrial } from "../lib/trial.js";
import { html, useEffect, useMemo } from "../lib/ui.js";

/** The kinds of entries: their name in an address, in the answer, and the key of their name there. */
const KINDS = {
  tool: { title: "Tools", list: "tools", key: "name", original: "original_name" },
  resource: { title: "Resources", list: "resources", key: "uri", original: "original_uri" },
  template: { title: "Templates", list: "templates", key: "uri_template", original: "original_uri_template" },
  prompt: { title: "Prompts", list: "prompts", key: "name", original: "original_name" },
};

export default function Tools({ parts, options }) {
  const agent = options.agent ?? "";
  const profile = agent ? "" : (options.profile ?? "");
  const of = useResource("/admin/tools" + query({ profile, agent }), { every: 30_000, on: ["lists", "reload"] });
  const [kind, name] = parts;
  if (KINDS[kind] && name) return html`<${Entry} key=${`${kind} ${name} ${profile} ${agent}`} kind=${kind} name=${name} profile=${profile} agent=${agent} of=${of} />`;
  const shown = options.show ?? (options.conflicts ? "conflicts" : "tool");
  const choose = (change) => go("tools", [], { show: shown, profile, agent, q: options.q, ...change }, { replace: true });
  return html`
    <${Heading} title="Tools" note=${agent ? html`What the agent <a href=${address("agents", [agent])}><${Text} value=${agent} limit=${80} /></a> sees, after the plugins that filter lists. <a href=${address("tools")}>What all see</a>` : "What agents see, and which servers serve it."}>${!agent && html`<${Profiles} of=${of.data} profile=${profile} choose=${(value) => choose({ profile: value })} />`}<//>
    ${of.error && !of.data && (profile || agent) ? html`<${Failure} error=${of.error} what="Tools" /><p class="state"><a href=${address("tools")}>What agents without a profile see</a></p>` : html`<${Loaded} of=${of} what="Tools">${(data) => html`<${Lists} data=${data} shown=${shown} profile=${profile} agent=${agent} choose=${choose} filter=${options.q ?? ""} />`}<//>`}`;
}

function Profiles({ of, profile, choose }) {
  const names = [...new Set([...(of?.profiles ?? []), profile].filter(Boolean))];
  if (!names.length) return null;
  return html`<label class="pick">Profile <select value=${profile} onChange=${(event) => choose(event.currentTarget.value)}>
    <option value="" selected=${!profile}>none</option>
    ${names.map((name) => html`<option key=${name} value=${name} selected=${name === profile}>${visible(name)}</option>`)}
  </select></label>`;
}

function Lists({ data, shown, profile, agent, choose, filter }) {
  const conflicts = data.conflicts ?? [];
  const tabs = [
    ...Object.entries(KINDS).map(([kind, { title, list }]) => [kind, title, (data[list] ?? []).length]),
    ["conflicts", "Conflicts", conflicts.length],
    ["replicas", "Replicas", (data.replicas ?? []).length],
  ];
  const said = [...(data.warnings ?? []).map((text) => ["warn", text]), ...(data.notes ?? []).map((text) => ["info", text])];
  return html`
    <div class="tabs" role="navigation" aria-label="Kinds">${tabs.map(([kind, title, total]) => html`<a key=${kind} href=${address("tools", [], { show: kind, profile, agent })} aria-current=${kind === shown ? "page" : undefined}>${title} <span class="tag">${total}</span></a>`)}</div>
    ${shown === "conflicts"
      ? html`<${Conflicts} rows=${conflicts} />`
      : shown === "replicas"
        ? html`<${Replicas} rows=${data.replicas ?? []} />`
        : html`<${Entries} key=${shown} kind=${KINDS[shown] ? shown : "tool"} data=${data} profile=${profile} agent=${agent} filter=${filter} onFilter=${(q) => choose({ q })} />`}
    ${said.length > 0 && html`<${Panel} title="Notes" class="below"><ul class="notes">${said.slice(0, 100).map(([kind, text]) => html`<li key=${text}><${Status} kind=${kind}><${Text} value=${text} limit=${400} /><//></li>`)}</ul><//>`}`;
}

const Servers = ({ names, limit = 3 }) =>
  html`${(names ?? []).slice(0, limit).map((name, at) => html`<span class="tag" key=${name} title=${at === 0 ? "takes the calls first" : "takes them if those before it cannot"}><${Text} value=${name} limit=${40} /></span> `)}${names?.length > limit && `+${names.length - limit}`}`;

const HINTS = [
  ["readOnlyHint", true, "reads", "ok"],
  ["destructiveHint", true, "destructive", "warn"],
  ["idempotentHint", true, "idempotent", "info"],
  ["openWorldHint", true, "open world", "info"],
];
const hintsOf = (row) => HINTS.filter(([key, value]) => row.annotations?.[key] === value && !(key === "destructiveHint" && row.annotations.readOnlyHint));
const Hints = ({ of }) => html`${hintsOf(of).map(([key, , word]) => html`<span class="tag" key=${key}>${word}</span> `)}`;

const oneLine = (text) => String(text ?? "").slice(0, 1000).replace(/[ \t\r\n]+/g, " ").trim();

function columnsOf(kind) {
  const { key, original } = KINDS[kind];
  return [
    { key: "name", title: key === "name" ? "Name" : kind === "template" ? "URI template" : "URI", value: (row) => row[key], cell: (row) => html`<span class="name"><${Text} value=${row[key]} limit=${90} /></span>${row[original] !== row[key] ? html` <span class="hint">was <${Text} value=${row[original]} limit=${60} /></span>` : ""}` },
    { key: "servers", title: "Servers", value: (row) => (row.upstreams ?? []).join(" "), cell: (row) => html`<${Servers} names=${row.upstreams} />` },
    ...(kind === "tool" ? [{ key: "hints", title: "Hints", value: (row) => hintsOf(row).map(([, , word]) => word).join(" "), cell: (row) => html`<${Hints} of=${row} />`, narrow: false }] : []),
    { key: "description", title: "Description", align: "fill", value: (row) => `${key === "name" ? "" : (row.name ?? "") + " "}${row.description ?? ""}`.slice(0, 2000), cell: (row) => html`<${Text} value=${oneLine(row.description || (key === "name" ? "" : row.name))} limit=${200} />`, narrow: false },
  ];
}
const COLUMNS = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, columnsOf(kind)]));

function Entries({ kind, data, profile, agent, filter, onFilter }) {
  const { list, key, title } = KINDS[kind];
  return html`<${Panel} flush>
    <${Table} label=${title.toLowerCase()} columns=${COLUMNS[kind]} rows=${data[list] ?? []} keyOf=${(row) => row[key]} filter=${filter} onFilter=${onFilter}
      onOpen=${(row) => go("tools", [kind, row[key]], { profile, agent })}
      empty=${html`<${Empty} title=${`No ${title.toLowerCase()}`} icon="tools">${agent ? "This agent sees none." : profile ? "This profile shows none." : "No server offers any."}<//>`} />
  <//>`;
}

const CLAIMS = [
  { key: "kind", title: "Kind", value: (row) => row.kind, width: "96px" },
  { key: "name", title: "Name", value: (row) => row.name, cell: (row) => html`<span class="name"><${Text} value=${row.name} limit=${80} /></span>` },
  { key: "outcome", title: "Resolved", value: (row) => row.outcome, cell: (row) => html`<${Text} value=${row.outcome} limit=${120} />` },
  { key: "claims", title: "Who got which name", align: "fill", value: (row) => (row.claims ?? []).map((one) => `${one.upstreams.join(" ")} ${one.published ?? "dropped"}`).join(" "), cell: (row) => html`<${Claims} of=${row} />` },
];

const Claims = ({ of }) =>
  html`<ul class="claims">${(of.claims ?? []).map((one, at) => html`<li key=${at}><${Servers} names=${one.upstreams} />${one.published == null ? html`<${Status} kind="warn">not shown<//>` : html`<span aria-hidden="true">→</span> <${Text} value=${one.published} limit=${80} mono />`}</li>`)}</ul>`;

const Conflicts = ({ rows }) =>
  html`<${Panel} flush class="tall"><${Table} label="conflicts" columns=${CLAIMS} rows=${rows} keyOf=${(row) => `${row.kind} ${row.name}`} noFilter=${rows.length < 8}
    empty=${html`<${Empty} title="No conflicts" icon="check">No two servers offer different things under one name.<//>`} /><//>`;

const OF_REPLICAS = [
  { key: "upstreams", title: "Servers", value: (row) => row.upstreams.join(" "), cell: (row) => html`<${Servers} names=${row.upstreams} limit=${8} />` },
  { key: "reason", title: "Why they count as one", value: (row) => row.reason, cell: (row) => html`<${Text} value=${row.reason} limit=${200} />` },
  { key: "tools", title: "Tools", align: "fill", value: (row) => row.tools.join(" "), cell: (row) => html`<${Text} value=${row.tools.join(", ")} limit=${200} />`, narrow: false },
];

const Replicas = ({ rows }) =>
  html`<${Panel} flush><${Table} label="replicas" columns=${OF_REPLICAS} rows=${rows} keyOf=${(row) => row.upstreams.join("\u0000")} noFilter=${rows.length < 8}
    empty=${html`<${Empty} title="No replicas" icon="servers">No two servers serve the same.<//>`} /><//>`;

// --- one entry

function Entry({ kind, name, profile, agent, of }) {
  const { list, key, original, title } = KINDS[kind];
  const row = (of.data?.[list] ?? []).find((one) => one[key] === name);
  const tool = useResource(kind === "tool" ? "/admin/tool" + query({ name, profile, agent }) : "", { on: ["lists", "reload"] });
  useEffect(() => document.querySelector("#title")?.focus({ preventScroll: true }), []);
  const back = html`<a class="button" href=${address("tools", [], { show: kind, profile, agent })}>All ${title.toLowerCase()}</a>`;
  const heading = (note) => html`<${Heading} title=${visible(name).slice(0, 160)} note=${note}>${back}<//>`;
  const known = kind === "tool" ? tool : of;
  if (known.error && !known.data) return html`${heading()}<${Failure} error=${known.error} retry=${known.reload} />`;
  if (!known.data) return html`${heading()}<${Loading} />`;
  const definition = tool.data?.definition;
  if (!row && !definition) {
    return html`${heading()}<${Empty} title="Agents see nothing of this name" icon="tools">${agent ? html`Of the agent <${Text} value=${agent} limit=${80} /> at least.` : profile ? html`In the profile <${Text} value=${profile} /> at least.` : "Its server may be away, or may offer it no longer."}<//>`;
  }
  const upstreams = row?.upstreams ?? tool.data?.upstreams ?? [];
  const was = row?.[original] ?? tool.data?.original_name;
  const note = html`Served by ${upstreams.map((one, at) => html`${at > 0 && ", then "}<a key=${one} href=${address("servers", [one])}><${Text} value=${one} limit=${60} /></a>`)}${was && was !== name && html`, there <code><${Text} value=${was} limit=${80} /></code>`}${profile && html`; seen in profile <${Text} value=${profile} />`}${agent && html`; seen by <${Text} value=${agent} limit=${80} />`}`;
  const conflict = (of.data?.conflicts ?? []).find((one) => one.kind === kind && (one.name === was || one.claims?.some((claim) => claim.published === name)));
  const described = html`${(row?.description || definition?.description) && html`<p><${Prose} value=${definition?.description || row.description} /></p>`}
    ${definition && html`<p class="hints"><${Hints} of=${definition} /></p>`}`;
  const target = { kind, name, profile, row, schema: definition?.inputSchema };
  return html`
    ${heading(note)}
    ${agent ? html`<${Panel} title="Description">${described}<//>` : html`<${Tryout} target=${target} ready=${kind !== "tool" || Boolean(definition)}>${described}<//>`}
    ${conflict && html`<${Panel} title="Conflict of names" class="below"><p><${Text} value=${conflict.outcome} limit=${200} /></p><${Claims} of=${conflict} /><//>`}
    ${definition && html`<${Definition} of=${definition} />`}
    ${kind === "prompt" && row?.arguments?.length > 0 && html`<${Panel} title="Arguments" class="below"><${Fields} of="Arguments" fields=${row.arguments.map((one) => [one.name, { kind: "string", required: one.required, description: one.description }])} /><//>`}`;
}

function Tryout({ target, ready, children }) {
  const trial = useTrial(target);
  return html`<${Trial} of=${trial} target=${target} ready=${ready}>${children}<//>`;
}

const Fields = ({ fields, of }) =>
  html`<div class="scroll" tabindex="0" role="region" aria-label=${`Fields: ${of}`}><table class="plain"><thead><tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">Description</th></tr></thead>
    <tbody>${fields.map(([name, field]) => html`<tr key=${name}><td><span class="mono"><${Text} value=${name} limit=${80} /></span>${field.required && html` <span class="needed">required</span>`}</td><td>${typeOf(field)}</td><td class="wrap"><${Prose} value=${field.description} limit=${600} /></td></tr>`)}</tbody></table></div>`;

function Definition({ of }) {
  const sides = useMemo(() => [["Arguments", of.inputSchema], ["Result", of.outputSchema]].filter(([, schema]) => schema).map(([title, schema]) => [title, fieldOf(schema)]), [of]);
  return html`<div class="below pair">
    <div class="stack">${sides.map(([title, field]) => html`<${Panel} key=${title} title=${title}>${field.kind === "object" && field.fields.length ? html`<${Fields} of=${title} fields=${field.fields} />` : html`<p class="hint">${field.kind === "object" ? "None." : "See the definition."}</p>`}<//>`)}</div>
    <${Panel} title="Definition" actions=${html`<span class="hint">${count(JSON.stringify(of).length, "character")}</span>`}><${Block} value=${JSON.stringify(of, null, 2)} label="Definition as JSON" /><//>
  </div>`;
}
