// Agents: principals and their sessions, what they do, what they see, and what limits them.
import * as api from "../lib/api.js";
import { path, query } from "../lib/api.js";
import { Outcome, stateOf } from "../lib/calls.js";
import { isFailure } from "../lib/figures.js";
import { Action, Drawer, Empty, Facts, Failure, Heading, Loaded, Loading, Panel, Status, confirm, toast } from "../lib/parts.js";
import { address, go } from "../lib/router.js";
import { useResource, useStore } from "../lib/store.js";
import { Table } from "../lib/table.js";
import { Text, ago, count, duration, number, visible } from "../lib/text.js";
import { html, useMemo, useRef } from "../lib/ui.js";

const RECENT = 1000; // ended calls that are looked at
const MINUTE = 60; // seconds for which calls count as those of the last minute

/** Agents by their id: what sessions, calls in flight and ended calls say of them. */
function agentsOf(sessions, live, ended, seen) {
  const found = new Map();
  const of = (id) => {
    if (!found.has(id)) found.set(id, { id, verified: null, eras: new Set(), clients: new Set(), profiles: new Set(), sessions: [], live: [], calls: 0, failed: 0, refused: 0, minute: 0, seen: 0 });
    return found.get(id);
  };
  const now = Date.now() / 1000;
  for (const one of sessions) {
    const agent = of(one.agent);
    agent.sessions.push(one);
    agent.eras.add("legacy");
    agent.verified = one.verified ?? agent.verified;
    if (one.client) agent.clients.add(one.client);
    if (one.profile) agent.profiles.add(one.profile);
    agent.seen = Math.max(agent.seen, one.idle == null ? now : now - one.idle);
  }
  for (const one of live) {
    const agent = of(one.agent);
    agent.live.push(one);
    agent.eras.add(one.era);
    agent.verified = one.verified;
    agent.seen = now;
  }
  for (const one of ended) {
    const agent = of(one.agent);
    agent.calls += 1;
    agent.eras.add(one.era);
    agent.verified = one.verified;
    agent.failed += isFailure(one.outcome);
    agent.refused += one.outcome === "refused";
    agent.minute += one.started > now - MINUTE;
    agent.seen = Math.max(agent.seen, one.started + one.seconds);
  }
  for (const { agent, clients } of seen) for (const client of clients) found.get(agent)?.clients.add(client);
  return [...found.values()];
}

const words = (set) => [...set].filter(Boolean).sort().join(", ");

const Proof = ({ of }) => (of.verified == null ? "–" : of.verified ? html`<${Status} kind="ok">verified<//>` : html`<${Status} kind="idle">unverified<//>`);

const COLUMNS = [
  { key: "id", title: "Agent", value: (row) => row.id, cell: (row) => html`<span class="name"><${Text} value=${row.id || "unknown"} limit=${80} /></span>` },
  { key: "verified", title: "Identity", value: (row) => (row.verified ? "verified" : "unverified"), cell: (row) => html`<${Proof} of=${row} />` },
  { key: "clients", title: "Client", value: (row) => words(row.clients), cell: (row) => html`<${Text} value=${words(row.clients) || "–"} limit=${60} />`, narrow: false },
  { key: "era", title: "Era", value: (row) => words(row.eras), narrow: false },
  { key: "profile", title: "Profile", value: (row) => words(row.profiles), cell: (row) => html`<${Text} value=${words(row.profiles) || "–"} limit=${60} />`, narrow: false },
  { key: "sessions", title: "Sessions", align: "end", value: (row) => row.sessions.length, cell: (row) => number(row.sessions.length), narrow: false },
  { key: "live", title: "In flight", align: "end", value: (row) => row.live.length, cell: (row) => number(row.live.length) },
  { key: "minute", title: "Last minute", align: "end", value: (row) => row.minute, cell: (row) => number(row.minute), narrow: false },
  { key: "refused", title: "Refused", align: "end", value: (row) => row.refused, cell: (row) => (row.refused ? html`<span class="is-warn">${number(row.refused)}</span>` : "0"), narrow: false },
  { key: "seen", title: "Seen", align: "end", value: (row) => row.seen, cell: (row) => (row.seen ? ago(row.seen) : "–") },
];

export default function Agents({ parts }) {
  const state = useStore();
  const sessions = useResource("/admin/sessions", { every: 5000, on: ["session"] });
  const live = useResource("/admin/calls", { every: 3000 });
  const recent = useResource("/admin/calls/recent" + query({ limit: RECENT }), { every: state.connection === "live" ? 0 : 5000 });
  const seen = useResource("/admin/agents", { every: 5000 });
  const partial = useRef(false); // whether the known calls cover less than a minute
  const agents = useMemo(() => {
    const ended = new Map([...(recent.data?.calls ?? []), ...state.calls].map((call) => [call.seq, call]));
    const oldest = Math.min(...[...ended.values()].map((call) => call.started));
    partial.current = ended.size >= RECENT && oldest > Date.now() / 1000 - MINUTE;
    return agentsOf(sessions.data?.sessions ?? [], live.data?.calls ?? [], ended.values(), seen.data?.agents ?? []);
  }, [sessions.data, live.data, recent.data, seen.data, state.version]);
  const open = parts[0];
  const found = open && agents.find((one) => one.id === open);
  const loading = sessions.loading || live.loading;
  const openSessions = sessions.data?.sessions.length;
  return html`
    <${Heading} title="Agents" note=${openSessions == null ? "" : `${count(openSessions, "session")}; agents of the modern era have none`} />
    ${[["Sessions", sessions], ["Calls in flight", live], ["Recent calls", recent], ["Clients", seen]].map(([what, of]) => of.error && !of.data && html`<${Failure} key=${what} error=${of.error} what=${what} retry=${of.reload} />`)}
    <${Panel} flush>
      <${Table} label="agents" columns=${COLUMNS} rows=${agents} keyOf=${(row) => row.id} sort=${{ key: "seen", down: true }} selected=${open} onOpen=${(row) => go("agents", [row.id])}
        empty=${loading ? html`<${Loading} what="agents" />` : html`<${Empty} title="No agent is here" icon="agents">They appear with their first session or call.<//>`} />
    <//>
    ${found && html`<${Details} key=${open} of=${found} partial=${partial.current} reload=${() => sessions.reload()} close=${() => go("agents")} />`}
    ${open && !found && !loading && html`<p class="state" role="alert">Nothing is known of the agent <${Text} value=${open} /> any more. <a href=${address("agents")}>All agents</a></p>`}`;
}

function Details({ of, partial, reload, close }) {
  const profiles = [...of.profiles];
  return html`<${Drawer} title=${visible(of.id || "unknown").slice(0, 120)} onClose=${close}>
    <div class="actions">
      <${Proof} of=${of} />
      <span class="grow"></span>
      <a class="button small" href=${address("calls", [], { agent: of.id })}>Its calls</a>
    </div>
    <section>
      <h3>Agent</h3>
      <${Facts} rows=${[
        ["Id", html`<${Text} value=${of.id} limit=${300} mono />`],
        ["Identity", of.verified ? "its credentials prove it" : "nothing proves it; the id is what the client says and its address"],
        ["Client", words(of.clients) && html`<${Text} value=${words(of.clients)} limit=${200} />`],
        ["Era", words(of.eras)],
        ["Sees", html`<a href=${address("tools", [], { agent: of.id })}>${profiles.length ? html`its tools, in profile <${Text} value=${profiles.join(", ")} limit=${60} />` : "its tools"}</a>`],
        ["Seen", of.seen ? ago(of.seen) : null],
      ]} />
    </section>
    <${Limits} of=${of} partial=${partial} />
    ${of.live.length > 0 && html`<section><h3>Calls in flight</h3><ul class="lines">${of.live.slice(0, 50).map((call) => html`<li key=${call.id}><a href=${address("calls", [call.id])}><${Text} value=${call.name || call.method} limit=${80} /></a> <${Outcome} of=${stateOf(call)} /> <span class="hint">${duration(call.seconds)}</span></li>`)}</ul></section>`}
    <section>
      <h3>Sessions</h3>
      ${of.sessions.length
        ? html`<ul class="sessions">${of.sessions.slice(0, 100).map((one) => html`<${Session} key=${one.key} of=${one} reload=${reload} />`)}</ul>${of.sessions.length > 100 && html`<p class="hint">${count(of.sessions.length - 100, "more session")}.</p>`}`
        : html`<p class="hint">None. Agents of the modern era need no session.</p>`}
    </section>
  <//>`;
}

function Session({ of, reload }) {
  async function end() {
    const agreed = await confirm({
      title: "End this session?",
      body: html`<p>${of.calls ? `${count(of.calls, "call")} in flight end with it. ` : ""}The agent has to begin a new session.</p>`,
      verb: "End it",
      danger: true,
    });
    if (!agreed) return;
    await api.post(path`/admin/sessions/${of.key}/end`);
    toast("ok", "The session was ended");
    await reload();
  }
  const facts = [of.protocol_version, count(of.calls, "call"), of.streams ? count(of.streams, "stream") : "", of.subscriptions ? count(of.subscriptions, "subscription") : "", of.idle == null ? "in use" : `idle for ${duration(Math.round(of.idle))}`];
  return html`<li>
    <div><${Text} value=${of.client || "unknown client"} limit=${80} /> <span class="hint mono">${visible(of.key).slice(0, 8)}</span><p class="hint"><${Text} value=${facts.filter(Boolean).join(", ")} limit=${200} /></p></div>
    <${Action} small changes kind="danger" run=${end}>End<//>
  </li>`;
}

/** What the limits of plugins leave an agent, as the plugins say. */
function Limits({ of, partial }) {
  const left = useResource("/admin/limits" + query({ agent: of.id }), { every: 3000, on: ["reload"] });
  const made = `${partial ? "at least " : ""}${number(of.minute)} in the last minute`;
  return html`<section>
    <h3>Limits</h3>
    <${Loaded} of=${left} what="Limits">${({ limits, problems }) => html`
      ${limits.length ? html`<${Left} limits=${limits} />` : html`<p class="hint">No plugin limits this agent.</p>`}
      ${problems.map((text) => html`<p key=${text}><${Status} kind="warn"><${Text} value=${text} limit=${300} /><//></p>`)}`}<//>
    <${Facts} rows=${[
      ["Calls", made],
      ["Recorded", `${count(of.calls, "call")}, ${number(of.failed)} failed, ${number(of.refused)} refused`],
    ]} />
  </section>`;
}

const SHOWN_LIMITS = 50;

/** Limits, those first of which least is left. */
function Left({ limits }) {
  const share = (one) => (one.limit ? one.remaining / one.limit : 0);
  const rows = [...limits].sort((one, other) => share(one) - share(other));
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Limits of this agent"><table class="plain"><thead><tr><th scope="col">What</th><th scope="col">Left now</th><th scope="col">Plugin</th></tr></thead>
    <tbody>${rows.slice(0, SHOWN_LIMITS).map((one, at) => html`<tr key=${at}>
      <td class="wrap"><${Text} value=${one.what} limit=${120} />${one.of === "address" && html` <span class="tag">its address</span>`}</td>
      <td>${one.remaining > 0 ? `${number(one.remaining)} of ${number(one.limit)} per ${visible(one.per)}` : html`<${Status} kind="warn">none of ${number(one.limit)} per ${visible(one.per)}<//>`}${one.wait > 0 && html` <span class="hint">again in ${duration(one.wait)}</span>`}</td>
      <td><${Text} value=${one.plugin} limit=${60} /></td>
    </tr>`)}</tbody></table></div>
    ${rows.length > SHOWN_LIMITS && html`<p class="hint">${count(rows.length - SHOWN_LIMITS, "more limit")}.</p>`}`;
}
