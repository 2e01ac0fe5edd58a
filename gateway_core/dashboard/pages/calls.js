// Calls: live and recent ones, with a filter and a pause, and everything that is known of one.
import * as api from "../lib/api.js";
import { path, query } from "../lib/api.js";
import { Agent, LIVE, Outcome, Spent, Timeline, decisionOf, stateOf } from "../lib/calls.js";
import { OUTCOMES } from "../lib/figures.js";
import { Action, Drawer, Empty, Facts, Failure, Heading, Loaded, Loading, Panel, confirm, toast } from "../lib/parts.js";
import { address, go } from "../lib/router.js";
import { useResource, useStore } from "../lib/store.js";
import { Table } from "../lib/table.js";
import { Text, bytes, count, duration, number, timeOfDay, visible } from "../lib/text.js";
import { cls, html, useMemo, useRef, useState } from "../lib/ui.js";

const RECENT = 1000; // ended calls that are asked for
const SHOWN = 2000; // rows at most

const whatOf = (call) => (call.method === "tools/call" ? "" : call.method);

const COLUMNS = [
  { key: "started", title: "Time", value: (row) => row.started, cell: (row) => timeOfDay(row.started), width: "84px" },
  { key: "state", title: "Outcome", value: stateOf, cell: (row) => html`<${Outcome} of=${stateOf(row)} />` },
  { key: "name", title: "Call", value: (row) => `${row.name} ${whatOf(row)}`, cell: (row) => html`<${Text} value=${row.name || row.method} limit=${80} />${row.name && whatOf(row) && html` <span class="tag"><${Text} value=${whatOf(row)} limit=${40} /></span>`}` },
  { key: "seconds", title: "Took", align: "end", value: (row) => row.seconds, cell: (row) => html`<span class=${cls(!row.outcome && "hint")}>${duration(row.seconds)}</span>` },
  { key: "upstream", title: "Server", value: (row) => row.upstream ?? "", cell: (row) => (row.upstream ? html`<${Text} value=${row.upstream} limit=${60} />` : "–"), narrow: false },
  { key: "agent", title: "Agent", value: (row) => row.agent, cell: (row) => html`<${Agent} id=${row.agent} verified=${row.verified} />`, narrow: false },
  { key: "decision", title: "Decision", align: "fill", value: decisionOf, cell: (row) => html`<${Text} value=${decisionOf(row)} limit=${120} />`, narrow: false },
  { key: "bytes", title: "Result", align: "end", value: (row) => row.bytes, cell: (row) => bytes(row.bytes), narrow: false },
];

const admits = (call, { outcome, upstream, agent, name }) =>
  (!outcome || stateOf(call) === outcome || (outcome === "live" && !call.outcome)) &&
  (!upstream || call.upstream === upstream) &&
  (!agent || call.agent === agent) &&
  (!name || call.name === name || call.method === name);

/** Live calls first, then the ended ones, latest first. */
function rowsOf(live, fetched, followed, filter) {
  const ended = new Map();
  for (const call of [...fetched, ...followed]) if (admits(call, filter)) ended.set(call.seq, call);
  const known = new Set([...ended.values()].map((call) => call.id));
  const running = live.filter((call) => admits(call, filter) && !known.has(call.id)).sort((one, other) => other.started - one.started);
  return [...running, ...[...ended.values()].sort((one, other) => other.seq - one.seq)].slice(0, SHOWN);
}

export default function Calls({ parts, options }) {
  const state = useStore();
  const filter = { outcome: options.outcome ?? "", upstream: options.upstream ?? "", agent: options.agent ?? "", name: options.name ?? "" };
  const live = useResource("/admin/calls", { every: 1500 });
  const asked = { ...filter, outcome: LIVE[filter.outcome] || filter.outcome === "live" ? "" : filter.outcome };
  const recent = useResource("/admin/calls/recent" + query({ limit: RECENT, ...asked }), { every: state.connection === "live" ? 0 : 3000 });
  const [paused, setPaused] = useState(false);
  const [scrolled, setScrolled] = useState(false);
  const open = parts[0];
  const held = paused || scrolled;

  const now = Date.now() / 1000;
  const running = useMemo(() => (live.data?.calls ?? []).map((call) => ({ ...call, started: now - call.seconds })), [live.data]);
  const rows = useMemo(
    () => rowsOf(running, recent.data?.calls ?? [], state.calls, filter),
    [running, recent.data, state.version, ...Object.values(filter)],
  );
  const kept = useRef({ rows, at: now, filter: "" });
  const key = JSON.stringify(filter);
  if (!held || kept.current.filter !== key) kept.current = { rows, at: now, filter: key };
  const shown = kept.current.rows;
  const fresh = held ? newer(rows, shown) : 0;

  const choose = (key, value) => go("calls", [], { ...filter, [key]: value }, { replace: true });
  const first = recent.error && !recent.data && live.error && !live.data;
  const scroll = ({ target }) => target.classList?.contains("scroll") && setScrolled(target.scrollTop > 8);
  const top = () => {
    document.querySelector(".calls .scroll")?.scrollTo(0, 0);
    setPaused(false);
  };

  return html`
    <${Heading} title="Calls" note=${noteOf(live.data?.calls, recent.data, state.connection)}>
      ${held && html`<span class="hint">${paused ? "Paused" : "Held while you scroll"} at ${timeOfDay(kept.current.at)}${fresh > 0 && `, ${count(fresh, "new call")}`}</span>`}
      <${Action} run=${async () => (held ? top() : setPaused(true))}>${held ? "Continue" : "Pause"}<//>
    <//>
    <p class="hidden" role="status">${held ? "The list is paused" : ""}</p>
    ${live.error && html`<${Failure} error=${live.error} what="Calls in flight" retry=${live.reload} />`}
    ${recent.error && html`<${Failure} error=${recent.error} what="Recent calls" retry=${recent.reload} />`}
    ${!first && html`<div class="calls" onScrollCapture=${scroll}><${Panel} flush>
      <${Table} label="calls" columns=${COLUMNS} rows=${shown} keyOf=${keyOf} selected=${open} onOpen=${(row) => go("calls", [row.id], filter)}
        tools=${html`<${Filters} filter=${filter} choose=${choose} rows=${rows} upstreams=${state.status?.upstreams ?? []} />`}
        empty=${live.loading || recent.loading ? html`<${Loading} what="calls" />` : html`<${Empty} title=${Object.values(filter).some(Boolean) ? "No call matches" : "No calls yet"} icon="calls">${Object.values(filter).some(Boolean) ? html`<a href=${address("calls")}>Show all calls</a>` : "They appear here as agents make them."}<//>`} />
    <//></div>`}
    ${open && html`<${Details} key=${open} id=${open} known=${rows.find((row) => row.id === open)} close=${() => go("calls", [], filter)} />`}`;
}

const keyOf = (row) => row.seq ?? row.id;

/** How many ended calls came after those that are shown. */
function newer(rows, shown) {
  const last = shown.reduce((most, row) => Math.max(most, row.seq ?? 0), 0);
  return rows.filter((row) => row.seq > last).length;
}

function noteOf(live, recent, connection) {
  const said = [live ? `${number(live.length)} not ended` : ""];
  if (recent && !recent.recording) said.push("only calls that go wrong are recorded");
  if (connection === "polling") said.push("new ones appear every few seconds");
  return said.filter(Boolean).join("; ");
}

const OUTCOME_CHOICES = [["", "All outcomes"], ["live", "Not ended"], ...Object.entries(OUTCOMES).map(([value, { label }]) => [value, label])];

function Filters({ filter, choose, rows, upstreams }) {
  const agents = useMemo(() => [...new Set([filter.agent, ...rows.slice(0, 500).map((row) => row.agent)].filter(Boolean))].sort().slice(0, 200), [rows, filter.agent]);
  const servers = [...new Set([filter.upstream, ...upstreams.map((one) => one.name)].filter(Boolean))];
  return html`
    <${Pick} label="Outcome" value=${filter.outcome} choices=${OUTCOME_CHOICES} choose=${(value) => choose("outcome", value)} />
    <${Pick} label="Server" value=${filter.upstream} choices=${[["", "All servers"], ...servers.map((name) => [name, visible(name)])]} choose=${(value) => choose("upstream", value)} />
    <${Pick} label="Agent" value=${filter.agent} choices=${[["", "All agents"], ...agents.map((name) => [name, visible(name).slice(0, 60)])]} choose=${(value) => choose("agent", value)} />
    ${filter.name && html`<span class="chip">Call <b><${Text} value=${filter.name} limit=${40} /></b><button type="button" class="link" onClick=${() => choose("name", "")}>any</button></span>`}`;
}

const Pick = ({ label, value, choices, choose }) =>
  html`<label class="pick"><span class="hidden">${label}</span><select value=${value} onChange=${(event) => choose(event.currentTarget.value)}>
    ${choices.map(([key, title]) => html`<option key=${key} value=${key} selected=${key === value}>${title}</option>`)}
  </select></label>`;

function Details({ id, known, close }) {
  const [ended, setEnded] = useState(false);
  const of = useResource(path`/admin/calls/${id}`, { every: ended ? 0 : 1000 });
  if (of.data?.outcome && !ended) setEnded(true);
  const call = of.data ?? known;
  const title = visible(call?.name || call?.method || "Call").slice(0, 120);
  return html`<${Drawer} title=${title} onClose=${close}>
    ${call ? html`<${Call} call=${call} details=${of} reload=${of.reload} />` : html`<${Loaded} of=${of} what="Call">${() => ""}<//>`}
  <//>`;
}

const MEANINGS = {
  unknown: "It may have run. Check before you repeat it.",
  unavailable: "No server could take it.",
  refused: "It did not reach a server.",
  tool_error: "The server ran it and reports an error.",
  cancelled: "It was cancelled before it ended.",
};

function Call({ call, details, reload }) {
  const state = call.outcome ?? call.state ?? stateOf(call);
  async function cancel() {
    const agreed = await confirm({
      title: "Cancel this call?",
      body: html`<p>The agent gets an error. ${call.sent ? "The server may have begun; what it did stays." : "It has not reached a server."}</p>`,
      verb: "Cancel the call",
      danger: true,
    });
    if (!agreed) return;
    await api.post(path`/admin/calls/${call.id}/cancel`);
    toast("ok", "The call was cancelled");
    await reload();
  }
  return html`
    <div class="actions">
      <${Outcome} of=${state} />
      <span class="hint">${duration(call.seconds)}</span>
      <span class="grow"></span>
      ${call.method === "tools/call" && call.name && html`<a class="button small" href=${address("tools", ["tool", call.name])}>Tool</a>`}
      ${!call.outcome && html`<${Action} small changes kind="danger" run=${cancel}>Cancel<//>`}
    </div>
    ${(call.error || MEANINGS[call.outcome]) && html`<section class=${`notice is-${call.outcome === "refused" || call.outcome === "tool_error" ? "warn" : call.outcome === "cancelled" ? "idle" : "bad"}`}>
      <h3>${MEANINGS[call.outcome] ?? "It failed."}</h3>
      ${call.error && html`<p><${Text} value=${call.error.text || "The server's message is not recorded; it may quote payloads."} limit=${1200} /> <span class="hint">code ${String(call.error.code)}</span></p>`}
    </section>`}
    <section>
      <h3>What happened</h3>
      ${details.data
        ? html`${details.data.spent && html`<${Spent} of=${details.data.spent} />`}<${Timeline} steps=${details.data.timeline ?? []} seconds=${call.seconds} />`
        : details.error ? html`<${Failure} error=${details.error} retry=${details.reload} />` : html`<${Loading} />`}
    </section>
    <section>
      <h3>Call</h3>
      <${Facts} rows=${[
        ["Method", html`<${Text} value=${call.method} mono />`],
        ["Name", call.name && html`<${Text} value=${call.name} limit=${300} mono />`],
        ["Server", call.upstream && html`<a href=${address("servers", [call.upstream])}><${Text} value=${call.upstream} /></a>`],
        ["Agent", html`<${Agent} id=${call.agent} verified=${call.verified} link />`],
        ["Era", call.era],
        ["Session", call.session && html`<${Text} value=${call.session} limit=${12} mono />`],
        ["Began", timeOfDay(call.started)],
        ["Took", call.waited > 0.0005 ? `${duration(call.seconds)}, of which ${duration(call.waited)} waiting for a person` : duration(call.seconds)],
        ["Sent", call.sent == null ? null : call.sent ? "it may have reached the server" : "nothing has left for a server"],
        ["Result", call.bytes == null ? null : bytes(call.bytes)],
        ["Configuration", call.generation == null ? null : `generation ${number(call.generation)}`],
        ["Id", html`<${Text} value=${call.id} mono />`],
      ]} />
    </section>
    <${Lines} id=${call.id} ended=${Boolean(call.outcome)} />`;
}

/** The lines of the log about this call. */
function Lines({ id, ended }) {
  const log = useResource("/admin/log" + query({ exchange: id, limit: 50 }), { every: ended ? 0 : 3000 });
  if (log.error?.status === 404) return null;
  return html`<section><h3>Log</h3><${Loaded} of=${log} what="Log">${({ lines }) =>
    lines.length
      ? html`<ol class="lines">${lines.map((line) => html`<li key=${line.seq}><span class="hint">${line.at ? timeOfDay(line.at) : ""}</span> <span class=${cls(line.level === "ERROR" && "is-bad", line.level === "WARNING" && "is-warn")}>${visible(line.level).toLowerCase()}</span> <${Text} value=${line.text} limit=${400} /></li>`)}</ol>`
      : html`<p class="hint">The log has no line about it that is still kept.</p>`}<//></section>`;
}
