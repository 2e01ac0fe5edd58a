// Overview: traffic, errors, latency, what needs attention, and the servers at a glance.
import { attention } from "../lib/attention.js";
import { DefinitionChanges, useUnseen } from "../lib/definitions.js";
import { Empty, Failure, Figure, Heading, Loading, Panel, Status } from "../lib/parts.js";
import { Plot, Sparkline } from "../lib/plot.js";
import { address, go } from "../lib/router.js";
import { ServerState, stateRank } from "../lib/servers.js";
import { useResource, useStore } from "../lib/store.js";
import { Table } from "../lib/table.js";
import { Text, ago, bytes, compact, count, decimal, milliseconds, number, percent } from "../lib/text.js";
import { html, useState } from "../lib/ui.js";
import { PAGES } from "../pages.js";

const SPAN = 300; // seconds that the figures cover
const SHOWN = 8; // entries of the queue before it is opened
const pages = () => new Set(PAGES.map((one) => one.id));

export default function Overview({ options }) {
  const { status, statusError, figures } = useStore();
  if (!status) {
    return html`<${Heading} title="Overview" />${statusError ? html`<${Failure} error=${statusError} what="Status" />` : html`<${Loading} />`}`;
  }
  return html`
    <${Heading} title="Overview" note=${html`Agents connect to <code>${status.address ? `${status.address}/${status.transport === "sse" ? "sse" : "mcp"}` : "standard input and output"}</code>`} />
    <${Figures} status=${status} figures=${figures} />
    <div class="columns">
      <div class="stack">
        <${Plots} figures=${figures} />
        <${Servers} status=${status} figures=${figures} />
      </div>
      <${Queue} status=${status} />
    </div>
    ${options.changes && html`<${DefinitionChanges} key=${options.changes} upstream=${options.changes} chosen=${options.change} />`}`;
}

function Figures({ status, figures }) {
  const last = figures.last(SPAN);
  const series = figures.series();
  const failed = last.calls ? last.failed / last.calls : null;
  const { used, limit } = status.memory;
  const servers = status.upstreams.filter((one) => one.state !== "disabled");
  const healthy = servers.filter((one) => one.state === "healthy" || one.state === "idle").length;
  return html`<dl class="figures">
    <${Figure} name="Calls" value=${decimal(last.rate)} unit="/ s" detail=${`${compact(status.calls)} since the start`}>
      <${Sparkline} values=${series.calls.slice(-60)} width=${56} label="Calls per second over the last two minutes" />
    <//>
    <${Figure} name="Failed" value=${percent(failed)} kind=${failed > 0.01 ? "bad" : ""} detail=${`${count(last.failed, "call")} in 5 min`} />
    <${Figure} name="Latency, 95 %" value=${milliseconds(last.p95)} detail=${`median ${milliseconds(last.median)}`} />
    <${Figure} name="In flight" value=${number(status.in_flight)} detail=${`${number(status.parked)} parked`} />
    <${Figure} name="Agents" value=${number(status.sessions)} unit=${status.sessions === 1 ? "session" : "sessions"} detail=${count(status.connections, "connection")} />
    <${Figure} name="Servers" value=${html`${healthy}<small> of ${servers.length} ready</small>`} kind=${healthy < servers.length ? "warn" : ""} detail=${`${number(servers.reduce((sum, one) => sum + one.tools, 0))} tools`} />
    <${Figure} name="Memory" value=${percent(limit ? used / limit : null)} kind=${used > limit * 0.9 ? "bad" : ""} detail=${`${bytes(used)} of ${bytes(limit)}`} />
  </dl>`;
}

const TRAFFIC = [{ label: "calls", colour: "accent", fill: true }];
const ERRORS = [
  { label: "failed", colour: "bad", fill: true },
  { label: "tools", colour: "warn" },
  { label: "refused", colour: "info", dash: [4, 3] },
];
const LATENCY = [
  { label: "95 %", colour: "accent", fill: true },
  { label: "median", colour: "ok" },
];
const perSecond = (value) => decimal(value);

function Plots({ figures }) {
  const { at, calls, failed, toolErrors, refused, median, p95, span } = figures.series();
  return html`
    <${Panel} class="of-plot"><${Plot} title="Calls / s" series=${TRAFFIC} data=${[at, calls]} span=${span} unit=${perSecond} height=${168}
      summary="Calls per second over the last five minutes" /><//>
    <div class="pair">
      <${Panel} class="of-plot"><${Plot} title="Errors / s" series=${ERRORS} data=${[at, failed, toolErrors, refused]} span=${span} unit=${perSecond} height=${140}
        summary="Failed calls, errors of tools and refusals per second over the last five minutes" /><//>
      <${Panel} class="of-plot"><${Plot} title="Latency" series=${LATENCY} data=${[at, p95, median]} span=${span} unit=${milliseconds} height=${140}
        summary="Latency of calls over the last five minutes: median, and 95 % of the calls" /><//>
    </div>`;
}

function Queue({ status }) {
  const state = useStore();
  const tools = useResource("/admin/tools", { every: 60_000, on: ["lists", "reload"] });
  const recent = useResource("/admin/calls/recent?limit=500", { every: 15_000 });
  const questions = useResource("/admin/questions", { every: 15_000, on: ["question"] });
  const changes = useUnseen(status);
  const [all, setAll] = useState(false);
  const known = new Set((recent.data?.calls ?? []).map((call) => call.seq));
  const calls = [...(recent.data?.calls ?? []), ...state.calls.filter((call) => !known.has(call.seq))];
  const found = attention({ status, tools: tools.data, recent: calls, questions: questions.data, changes: changes.data });
  const there = pages();
  return html`<${Panel} title="Needs attention" flush actions=${found.length > 0 && html`<span class="tag">${found.length}</span>`}>
    ${found.length === 0
      ? html`<${Empty} title="All is well" icon="check">No server is down, no call failed, no question waits.<//>`
      : html`<ul class="attention">
          ${(all ? found : found.slice(0, SHOWN)).map((one) => html`<${Entry} key=${one.key} ...${one} there=${there} />`)}
        </ul>`}
    ${found.length > SHOWN && html`<p class="more"><button type="button" class="button small" aria-expanded=${all} onClick=${() => setAll(!all)}>${all ? "Show fewer" : `Show all ${found.length}`}</button></p>`}
  <//>`;
}

function Entry({ kind, what, about, why, more = "", at, href, command, there }) {
  const leads = href && there.has(href.slice(2).split(/[/?]/, 1)[0]);
  const title = html`${what}${about && html` <span class="about"><${Text} value=${about} limit=${60} /></span>`}`;
  return html`<li>
    <span class="what"><${Status} kind=${kind}>${leads ? html`<a href=${href}>${title}</a>` : html`<span>${title}</span>`}<//></span>
    ${at ? html`<span class="kind">${ago(at)}</span>` : html`<span></span>`}
    <span class="why"><span class="clamp"><${Text} value=${why} limit=${220} />${more}</span>${command && html`<code><${Text} value=${command} /></code>`}</span>
  </li>`;
}

const COLUMNS = [
  { key: "name", title: "Server", value: (row) => row.name, cell: (row) => html`<a href=${address("servers", [row.name])}><${Text} value=${row.name} limit=${60} /></a>` },
  { key: "state", title: "State", value: (row) => stateRank(row.state), cell: (row) => html`<${ServerState} of=${row} />` },
  { key: "rate", title: "Calls / s", align: "end", value: (row) => row.rate, cell: (row) => html`<span class="with-spark"><${Sparkline} values=${row.rates} width=${64} height=${18} /> ${decimal(row.rate)}</span>`, narrow: false },
  { key: "calls", title: "Calls", align: "end", value: (row) => row.calls, cell: (row) => compact(row.calls) },
  { key: "errors", title: "Errors", align: "end", value: (row) => row.errors, cell: (row) => (row.errors ? html`<span class="is-bad">${compact(row.errors)}</span>` : "0") },
  { key: "latency", title: "Latency", align: "end", value: (row) => row.latency_ms, cell: (row) => milliseconds(row.latency_ms), narrow: false },
  { key: "flight", title: "In flight", align: "end", value: (row) => row.in_flight, cell: (row) => number(row.in_flight), narrow: false },
];

function Servers({ status, figures }) {
  const rows = status.upstreams.map((one) => {
    const points = figures.upstreams.get(one.name) ?? [];
    const recent = points.slice(-5).filter((point) => point.callRate != null);
    return {
      ...one,
      rate: recent.length ? recent.reduce((sum, point) => sum + point.callRate, 0) / recent.length : null,
      rates: points.slice(-40).map((point) => point.callRate),
    };
  });
  return html`<${Panel} title="Servers" flush actions=${html`<a href=${address("servers")}>All details</a>`}>
    <${Table} label="servers" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.name} onOpen=${(row) => go("servers", [row.name])} noFilter=${rows.length < 12} height="480px"
      empty=${html`<${Empty} title="No servers yet" icon="servers">Add a table <code>[[mcp.proxy.upstreams]]</code> to the configuration.<//>`} />
  <//>`;
}
