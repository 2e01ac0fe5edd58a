// Servers: their state, lists, latency, and what can be done with one.
import * as api from "../lib/api.js";
import { path } from "../lib/api.js";
import { Action, Drawer, Empty, Facts, Failure, Heading, Loading, Panel, Status, confirm, toast } from "../lib/parts.js";
import { Plot } from "../lib/plot.js";
import { address, go } from "../lib/router.js";
import { ServerState, isDraining, isLoginDue, stateRank, stateWord } from "../lib/servers.js";
import { store, useResource, useStore } from "../lib/store.js";
import { Table } from "../lib/table.js";
import { Text, compact, count, decimal, duration, milliseconds, number, percent, visible } from "../lib/text.js";
import { html, useEffect, useRef, useState } from "../lib/ui.js";

const LISTS = {
  current: ["ok", "current"],
  incomplete: ["warn", "incomplete"],
  "last known": ["info", "last known"],
  none: ["idle", "none"],
};

const Lists = ({ of }) => {
  const [kind, word] = LISTS[of.lists] ?? ["info", of.lists];
  return html`<${Status} kind=${kind}>${word}<//>`;
};

const protocol = (row) => (row.era ? `${row.era}${row.protocol_version ? ` ${row.protocol_version}` : ""}` : "");

const COLUMNS = [
  { key: "name", title: "Server", value: (row) => row.name, cell: (row) => html`<${Text} value=${row.name} limit=${60} />` },
  { key: "state", title: "State", value: (row) => stateRank(row.state), cell: (row) => html`<${ServerState} of=${row} />` },
  { key: "transport", title: "Transport", value: (row) => row.transport, cell: (row) => html`<span class="tag">${row.transport}</span>`, narrow: false },
  { key: "era", title: "Era", value: protocol, cell: (row) => html`${row.era ?? "–"}`, narrow: false },
  { key: "lists", title: "Lists", value: (row) => row.lists, cell: (row) => html`<${Lists} of=${row} />`, narrow: false },
  { key: "tools", title: "Tools", align: "end", value: (row) => row.tools, cell: (row) => number(row.tools) },
  { key: "calls", title: "Calls", align: "end", value: (row) => row.calls, cell: (row) => compact(row.calls), narrow: false },
  { key: "errors", title: "Errors", align: "end", value: (row) => row.errors, cell: (row) => (row.errors ? html`<span class="is-bad">${compact(row.errors)}</span>` : "0"), narrow: false },
  { key: "latency", title: "Latency", align: "end", value: (row) => row.latency_ms, cell: (row) => milliseconds(row.latency_ms) },
  { key: "flight", title: "In flight", align: "end", value: (row) => row.in_flight, cell: (row) => html`${number(row.in_flight)}${row.queued > 0 && html` <span class="is-warn">+${number(row.queued)} queued</span>`}`, narrow: false },
  { key: "error", title: "Last error", align: "fill", value: (row) => row.last_error, cell: (row) => (row.last_error ? html`<${Text} value=${row.last_error} limit=${200} />` : ""), narrow: false },
];

const FILTERS = [
  ["all", "All states"],
  ["trouble", "With trouble"],
  ["healthy", "Healthy"],
  ["disabled", "Disabled"],
];
const matches = (row, filter) =>
  filter === "all" || (filter === "trouble" ? !["healthy", "disabled", "idle"].includes(row.state) || row.warnings?.length > 0 : row.state === filter);

export default function Servers({ parts }) {
  const status = useStore((it) => it.status);
  const statusError = useStore((it) => it.statusError);
  const [filter, setFilter] = useState("all");
  const name = parts[0];
  if (!status) return html`<${Heading} title="Servers" />${statusError ? html`<${Failure} error=${statusError} what="Status" />` : html`<${Loading} />`}`;
  const rows = status.upstreams.filter((row) => matches(row, filter));
  const open = name && status.upstreams.find((row) => row.name === name);
  const tools = html`<label class="pick"><span class="hidden">State</span><select value=${filter} onChange=${(event) => setFilter(event.currentTarget.value)}>
    ${FILTERS.map(([value, title]) => html`<option value=${value}>${title}</option>`)}
  </select></label>`;
  return html`
    <${Heading} title="Servers" note=${summary(status.upstreams)} />
    <${Panel} flush>
      <${Table} label="servers" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.name} tools=${tools} selected=${name}
        onOpen=${(row) => go("servers", [row.name])}
        empty=${status.upstreams.length ? html`<p class="state">No server is in this state.</p>` : html`<${Empty} title="No servers yet" icon="servers">Add a table <code>[[mcp.proxy.upstreams]]</code> to the configuration.<//>`} />
    <//>
    ${open && html`<${Details} key=${name} of=${open} close=${() => go("servers")} />`}
    ${name && !open && html`<p class="state" role="alert">There is no server <${Text} value=${name} /> in the configuration. <a href=${address("servers")}>All servers</a></p>`}`;
}

function summary(upstreams) {
  const counts = new Map();
  for (const { state } of upstreams) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].sort(([one], [other]) => stateRank(one) - stateRank(other)).map(([state, found]) => `${found} ${stateWord(state)}`).join(", ");
}

async function act(of, verb, done) {
  await api.post(path`/admin/upstreams/${of.name}/` + verb);
  toast("ok", `${of.name}: ${done}`);
  await store.refresh();
}

async function disable(of) {
  const agreed = await confirm({
    title: `Disable ${visible(of.name)}?`,
    body: html`<p>Its tools leave the lists of agents, and its calls in flight end first. The file gets <code>enabled = false</code> for it.</p>`,
    verb: "Disable",
    danger: true,
  });
  if (agreed) await act(of, "disable", "disabled");
}

async function reconnect(of) {
  const agreed = of.in_flight === 0 || (await confirm({
    title: `Reconnect ${visible(of.name)}?`,
    body: html`<p>${count(of.in_flight, "call")} in flight will end first.${of.transport === "stdio" && " Then its process is started again."}</p>`,
    verb: "Reconnect",
  }));
  if (agreed) await act(of, "reconnect", "connecting again");
}

function Details({ of, close }) {
  const disabled = of.state === "disabled";
  return html`<${Drawer} title=${visible(of.name)} onClose=${close}>
    <div class="actions">
      <${ServerState} of=${of} />
      <span class="grow"></span>
      ${!disabled && html`<${Action} small changes run=${() => reconnect(of)}>${of.transport === "stdio" ? "Restart" : "Reconnect"}<//>`}
      ${!disabled && (isDraining(of)
        ? html`<${Action} small changes run=${() => act(of, "resume", "takes calls again")}>Resume<//>`
        : html`<${Action} small changes title="No new calls go to it; calls in flight end" run=${() => act(of, "drain", "draining")}>Drain<//>`)}
      ${disabled
        ? html`<${Action} small changes kind="primary" run=${() => act(of, "enable", "enabled")}>Enable<//>`
        : html`<${Action} small changes kind="danger" run=${() => disable(of)}>Disable<//>`}
    </div>
    ${of.last_error && html`<section class="notice is-${of.state === "healthy" ? "idle" : "bad"}"><h3>Last error</h3><p><${Text} value=${of.last_error} limit=${1500} /></p></section>`}
    ${(of.warnings ?? []).length > 0 && html`<section class="notice is-warn"><h3>Warnings</h3><ul>${of.warnings.map((text) => html`<li key=${text}><${Text} value=${text} limit=${800} /></li>`)}</ul></section>`}
    ${isLoginDue(of) && html`<section class="notice is-warn"><h3>Login due</h3><p><${Text} value=${of.login?.reason ?? "A person must log in."} limit=${400} /></p><p>In a terminal: <code>rad mcp proxy login <${Text} value=${of.name} /></code></p></section>`}
    <${Trend} of=${of} />
    <section>
      <h3>Connection</h3>
      <${Facts} rows=${[
        ["Transport", of.transport],
        ["Target", html`<${Text} value=${of.target} mono />`],
        ["Server", of.server && html`<${Text} value=${of.server} />`],
        ["Era", of.era && html`${of.era}${of.protocol_version && ` (${visible(of.protocol_version)})`}`],
        ["Priority", of.group ? html`${of.priority}, group <${Text} value=${of.group} />` : String(of.priority)],
        ["Connected", of.connects ? count(of.connects, "time") : null],
        ["Ejected", of.ejections ? count(of.ejections, "time") : null],
        ["Next try", of.next_retry_in == null ? null : `in ${duration(Math.max(0, Math.round(of.next_retry_in)))}`],
        ["Identities", of.identities == null ? null : number(of.identities)],
        ["Login", of.login && !isLoginDue(of) ? loginOf(of.login) : null],
        ["Access token", of.tokens?.renewals && tokensOf(of.tokens)],
        ["Tokens of users", of.tokens?.user_renewals && (renewalsOf(of.tokens.user_renewals) || "none yet")],
      ]} />
    </section>
    <section>
      <h3>Lists and calls</h3>
      <${Facts} rows=${[
        ["Lists", html`<${Lists} of=${of} />${of.lists_age != null && html` <span class="hint">fetched ${duration(Math.round(of.lists_age))} ago</span>`}`],
        ["Offers", [count(of.tools, "tool"), count(of.resources, "resource"), count(of.prompts, "prompt")].join(", ")],
        ["Calls", number(of.calls)],
        ["Errors", of.errors ? `${number(of.errors)} (${percent(of.errors / Math.max(1, of.calls))})` : "0"],
        ["In flight", `${number(of.in_flight)}${of.queued ? `, ${number(of.queued)} queued` : ""}`],
      ]} />
    </section>
    ${of.transport === "stdio" && !disabled && html`<${Tail} name=${of.name} />`}
  <//>`;
}

const loginOf = (login) => (login.users == null ? ownLogin(login) : usersOf(login));

const ownLogin = (login) =>
  [login.issuer && visible(login.issuer), login.expires_in != null && `the token ends in ${duration(Math.round(login.expires_in))}`, login.renewable && "renewable"].filter(Boolean).join(", ") || "done";

const usersOf = (login) =>
  [`${count(login.users, "user")} logged in`, login.users_due > 0 && `${number(login.users_due)} of them must log in again`].filter(Boolean).join(", ");

function tokensOf({ expires_at: end, renewals }) {
  const left = end == null ? 0 : Math.round(end - Date.now() / 1000);
  const ends = left > 0 ? `ends in ${duration(left)}` : "has ended";
  return [end != null && ends, renewalsOf(renewals)].filter(Boolean).join(", ") || "none yet";
}

const renewalsOf = (renewals) =>
  [
    renewals.renewed > 0 && `renewed ${count(renewals.renewed, "time")}`,
    renewals.failed > 0 && `${count(renewals.failed, "renewal")} failed`,
    renewals.login_needed > 0 && `${count(renewals.login_needed, "renewal")} needed a login`,
  ].filter(Boolean).join(", ");

const RATE = [
  { label: "calls", colour: "accent", fill: true },
  { label: "errors", colour: "bad" },
];
const LATENCY = [{ label: "mean", colour: "accent", fill: true }];

function Trend({ of }) {
  const points = store.figures.upstreams.get(of.name) ?? [];
  if (of.state === "disabled" || !points.length) return null;
  const at = points.map((point) => point.at);
  const span = [at.at(-1) - 300, at.at(-1)];
  return html`<section class="stack">
    <${Plot} level=${3} title="Latency" series=${LATENCY} data=${[at, points.map((point) => point.latency)]} span=${span} unit=${milliseconds} height=${110} summary="Mean latency of this server over the last five minutes" />
    <${Plot} level=${3} title="Calls / s" series=${RATE} data=${[at, points.map((point) => point.callRate), points.map((point) => point.errorRate)]} span=${span} unit=${decimal} height=${110} summary="Calls and errors of this server per second over the last five minutes" />
  </section>`;
}

/** The last lines that a child has written to its standard error. */
function Tail({ name }) {
  const log = useResource(path`/admin/upstreams/${name}/log` + "?limit=200", { every: 3000 });
  const place = useRef(null);
  const follows = useRef(true);
  const lines = (log.data?.lines ?? []).map((line) => (typeof line === "string" ? line : line.text));
  useEffect(() => {
    if (place.current && follows.current) place.current.scrollTop = place.current.scrollHeight;
  });
  const scrolled = ({ currentTarget: it }) => (follows.current = it.scrollHeight - it.scrollTop - it.clientHeight < 24);
  return html`<section>
    <h3>Standard error</h3>
    ${log.error && !log.data
      ? html`<${Failure} error=${log.error} />`
      : log.loading
        ? html`<${Loading} />`
        : lines.length
          ? html`<div class="block"><pre class="tail" tabindex="0" role="region" aria-label="Standard error" ref=${place} onScroll=${scrolled}><bdi>${lines.map((line) => visible(line.slice(0, 2000))).join("\n")}</bdi></pre></div>`
          : html`<p class="hint">It has written nothing.</p>`}
  </section>`;
}
