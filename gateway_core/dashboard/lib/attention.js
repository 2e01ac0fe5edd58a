// What needs attention: made from the status, the lists, the recent calls, the open questions and changed definitions.
import { attentionOf } from "./definitions.js";
import { address } from "./router.js";
import { isFailure } from "./figures.js";
import { isLoginDue } from "./servers.js";
import { count, duration } from "./text.js";

const SOON = 14 * 86400; // seconds before a certificate ends
const WINDOW = 3600; // seconds for which failed calls count
const WEIGHT = { bad: 0, warn: 1, info: 2 };

/**
 * The entries, the most urgent first: [{key, kind, what, about, why, at, href, command}]. `what` is a word of ours,
 * `about` a name from outside.
 */
export function attention({ status, tools, recent, questions, changes }) {
  const found = [
    ...ofGateway(status),
    ...(status?.upstreams ?? []).flatMap(ofServer),
    ...(status?.plugins ?? []).flatMap(ofPlugin),
    ...ofCalls(recent ?? []),
    ...ofQuestions(questions?.questions ?? []),
    ...(status?.unseen_changes ? attentionOf(changes?.changes ?? []) : []),
    ...ofTools(tools, status),
  ];
  return found.sort((one, other) => WEIGHT[one.kind] - WEIGHT[other.kind] || (other.at ?? 0) - (one.at ?? 0));
}

function ofGateway(status) {
  if (!status) return [];
  const found = (status.log?.warnings ?? []).map((text) => ({ key: `log ${text}`, kind: "warn", what: "Warning of the log", why: text }));
  if (status.draining) found.push({ key: "draining", kind: "warn", what: "The gateway is stopping", why: "Calls in flight end; new ones are refused." });
  else if (!status.ready) found.push({ key: "ready", kind: "bad", what: "Not ready", why: "No server can be reached." });
  const { used, limit } = status.memory ?? {};
  if (limit && used > limit * 0.9) found.push({ key: "memory", kind: "bad", what: "Memory is short", why: "New calls are refused until memory is free." });
  const left = status.certificate ? status.certificate.expires - Date.now() / 1000 : Infinity;
  if (status.certificate?.problem) {
    found.push({ key: "certificate files", kind: "warn", what: "Renewed certificate not used", why: status.certificate.problem });
  }
  if (left < SOON) {
    const why = left > 0 ? `It ends in ${duration(left)}.` : "It has ended, so agents refuse it.";
    found.push({ key: "certificate", kind: left > 0 ? "warn" : "bad", what: "Certificate for agents", why });
  }
  return found;
}

function ofServer(one) {
  const href = address("servers", [one.name]);
  const entry = (kind, what, why, more = {}) => ({ key: `${what} ${one.name} ${why}`, kind, what, about: one.name, why, href, ...more });
  const found = [];
  const retry = one.next_retry_in == null ? "" : `; next try in ${duration(Math.max(0, Math.round(one.next_retry_in)))}`;
  if (one.state === "down") found.push(entry("bad", "Server down", one.last_error ?? "no reason is known", { key: `down ${one.name}`, more: retry }));
  else if (one.state === "misconfigured") found.push(entry("bad", "Server misconfigured", one.last_error ?? one.warnings?.[0] ?? "", { key: `misconfigured ${one.name}` }));
  else if (one.state === "ejected") found.push(entry("warn", "Server ejected", "Its calls failed, so others are preferred for a while.", { key: `ejected ${one.name}` }));
  if (one.drained) found.push(entry("info", "Server drained", "New calls go elsewhere until it is resumed.", { key: `drained ${one.name}` }));
  if (isLoginDue(one)) {
    const why = one.login?.reason ?? "A person must log in.";
    found.push(entry("warn", "Login due", why, { key: `login ${one.name}`, command: `rad mcp proxy login ${one.name}` }));
  }
  if (one.lists === "incomplete") found.push(entry("warn", "Lists incomplete", "A list of this server could not be fetched.", { key: `lists ${one.name}` }));
  if (one.state !== "misconfigured") for (const text of one.warnings ?? []) found.push(entry("warn", "Warning", text));
  return found;
}

const ofPlugin = (one) =>
  (one.warnings ?? []).map((text) => ({ key: `plugin ${one.name} ${text}`, kind: "warn", what: "Plugin warns", about: one.name, why: text, href: address("plugins") }));

const OF_OUTCOME = {
  unknown: ["bad", "Unknown outcome", "may have run; check before repeating it"],
  unavailable: ["bad", "Not served", "no server could take it"],
  error: ["bad", "Failed", ""],
  refused: ["warn", "Refused", ""],
};

function ofCalls(calls) {
  const since = Date.now() / 1000 - WINDOW;
  const groups = new Map();
  for (const call of calls) {
    if (!(isFailure(call.outcome) || call.outcome === "refused") || call.started < since) continue;
    const key = `${call.outcome} ${call.upstream ?? ""} ${call.name || call.method}`;
    const group = groups.get(key) ?? { key, calls: 0, at: 0, call };
    group.calls += 1;
    if (call.started >= group.at) Object.assign(group, { at: call.started, call });
    groups.set(key, group);
  }
  return [...groups.values()].map(({ key, calls: number, at, call }) => {
    const [kind, what, meaning] = OF_OUTCOME[call.outcome];
    const by = call.decisions?.find((one) => one.decided === "refuse");
    const parts = [count(number, "call"), by ? `by ${by.plugin}${by.rule ? `, rule ${by.rule}` : ""}` : meaning || call.error?.text];
    const href = address("calls", [], { outcome: call.outcome, name: call.name, upstream: call.upstream ?? "" });
    return { key, kind, what, about: call.name || call.method, why: parts.filter(Boolean).join(": "), at, href };
  });
}

function ofQuestions(questions) {
  if (!questions.length) return [];
  const oldest = Math.max(...questions.map((one) => one.seconds ?? 0));
  const why = `The oldest waits for ${duration(oldest)}.`;
  return [{ key: "questions", kind: "warn", what: count(questions.length, "question waits", "questions wait"), why, href: address("questions") }];
}

function ofTools(tools, status) {
  if (!tools) return [];
  const found = [];
  const conflicts = tools.conflicts ?? [];
  if (conflicts.length) {
    const names = conflicts.slice(0, 4).map((one) => one.name).join(", ");
    const why = `${names}${conflicts.length > 4 ? ` and ${conflicts.length - 4} more` : ""}`;
    found.push({ key: "conflicts", kind: "info", what: count(conflicts.length, "conflict of names", "conflicts of names"), why, href: address("tools", [], { conflicts: "yes" }) });
  }
  const shown = new Set((status?.upstreams ?? []).flatMap((one) => one.warnings ?? []));
  const silent = new Set((status?.upstreams ?? []).filter((one) => one.state !== "healthy").map((one) => one.name));
  for (const text of tools.warnings ?? []) {
    if (!shown.has(text) && !silent.has(text.split(":", 1)[0])) found.push({ key: `tools ${text}`, kind: "warn", what: "Warning of the catalog", why: text });
  }
  return found;
}
