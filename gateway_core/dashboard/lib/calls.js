// What calls look like: rows of live and ended ones, their outcomes, and the words for what happened to them.
import { OUTCOMES } from "./figures.js";
import { Status } from "./icons.js";
import { address } from "./router.js";
import { Text, count, duration } from "./text.js";
import { html } from "./ui.js";

/** States of calls that have not ended. */
export const LIVE = {
  "in flight": { label: "in flight", kind: "busy" },
  asking: { label: "asks a person", kind: "warn" },
  parked: { label: "waits for its agent", kind: "warn" },
};

export const outcomeOf = (name) => OUTCOMES[name] ?? LIVE[name] ?? { label: name, kind: "info" };

export const Outcome = ({ of }) => {
  const { label, kind } = outcomeOf(of);
  return html`<${Status} kind=${kind}><${Text} value=${label} limit=${40} /><//>`;
};

/** The outcome of an ended call, or the state of a live one. */
export const stateOf = (call) => call.outcome ?? (call.parked ? "parked" : call.asking ? "asking" : "in flight");

/** A principal with the word that says whether credentials prove it. */
export const Agent = ({ id, verified, link = false }) => {
  const name = html`<${Text} value=${id || "unknown"} limit=${60} />`;
  return html`${link && id ? html`<a href=${address("agents", [id])}>${name}</a>` : name}${verified === false && html` <span class="tag">unverified</span>`}`;
};

/** Who refused or changed a call, in short: `security_policy: no secrets`. */
export function decisionOf(call) {
  const found = (call.decisions ?? []).filter((one) => one.decided !== "pass");
  const last = found.find((one) => one.decided === "refuse" || one.decided === "fail") ?? found.at(-1);
  return last ? `${last.plugin}: ${last.rule || last.decided}` : "";
}

const DECIDED = {
  pass: ["ok", "let it pass"],
  rewrite: ["info", "changed the request"],
  refuse: ["warn", "refused it"],
  answer: ["info", "answered it"],
  ask: ["warn", "asked a person"],
  edit: ["info", "changed the result"],
  fail: ["bad", "failed"],
};

const WHAT = {
  began: ["info", "The request came in"],
  failed: ["bad", "An attempt failed"],
  progress: ["busy", "Progress"],
  asked: ["warn", "A person was asked"],
  answered: ["ok", "The answer came"],
  unanswered: ["bad", "No answer came"],
  parked: ["warn", "The call waits for the next request of its agent"],
  resumed: ["ok", "The agent came back"],
};

const WAITED = {
  place: (who) => `The call waited for a place at ${who}`,
  start: (who) => `The call waited for the start of ${who}`,
  lists: () => "The call waited for the first lists of the servers",
};

const SENT = {
  refused: ["bad", "it refused the call"],
  unknown: ["bad", "no answer came"],
  cancelled: ["idle", "the call was cancelled"],
  not_sent: ["bad", "nothing was sent"],
};

/** One step of a timeline: {kind, title, who, text}. */
export function stepOf({ what, who, text = "", seconds }) {
  if (what === "ran") return { kind: "info", title: `${seconds == null ? "runs" : "ran"} ${text}`, who, text: "" };
  if (what === "waited") return { kind: "busy", title: (WAITED[text] ?? (() => text))(`server ${who}`), who: "", text: "" };
  if (what === "tried" || what === "sent") {
    const [kind, hint] = SENT[text] ?? ["info", text];
    return { kind, title: what === "sent" ? `Sent to server ${who}` : `Server ${who} was tried`, who: "", text: hint };
  }
  if (what === "replied") return { kind: text ? "bad" : "ok", title: `Server ${who} answered`, who: "", text };
  if (what === "decided") {
    const [word, ...rule] = text.split(" ");
    const [kind, title] = DECIDED[word] ?? ["info", word];
    return { kind, title, who, text: rule.join(" ") };
  }
  if (what === "ended") return { kind: outcomeOf(text).kind, title: `Ended: ${outcomeOf(text).label}`, who: "", text: who && `server ${who}` };
  if (what === "progress") return { kind: "busy", title: count(Number(text) || 1, "progress notification"), who: "", text: who && `from ${who}` };
  const [kind, title] = WHAT[what] ?? ["info", what];
  return { kind, title, who: "", text: [who, text].filter(Boolean).join(": ") };
}

const RUNNING = new Set(["ran", "waited", "sent", "tried"]); // without seconds they have not ended

const PARTS = { upstreams: "servers", plugins: "plugins", waiting: "waiting for servers", people: "people", gateway: "gateway" };

/** Where the time of a call went, the longest part first. */
export function Spent({ of }) {
  const parts = Object.entries(PARTS).filter(([key]) => of[key] > 0).sort(([one], [other]) => of[other] - of[one]);
  return html`<p class="spent">${parts.map(([key, words], at) => html`${at > 0 && ", "}<span key=${key}>${words} <b>${of[key] < 0.0001 ? "< 0.1 ms" : duration(of[key])}</b></span>`)}</p>`;
}

/** The steps of a call in order, each with the time since the first, and how long it took. */
export function Timeline({ steps, seconds }) {
  if (!steps.length) return html`<p class="hint">Nothing was recorded.</p>`;
  const first = steps[0].at;
  const span = Math.max(seconds || 0, steps.at(-1).at - first, 1e-6);
  return html`<ol class="timeline">
    ${steps.map((step, at) => {
      const { kind, title, who, text } = stepOf(step);
      const since = Math.max(0, step.at - first);
      const from = Math.min(99, (since / span) * 100);
      const took = step.seconds ?? (RUNNING.has(step.what) ? Math.max(0, span - since) : 0);
      return html`<li key=${at} class=${`is-${kind}`}>
        <span class="when">${at === 0 ? "0 ms" : since < 0.0001 ? "< 0.1 ms" : `+${duration(since)}`}</span>
        <div>
          <span class="step"><${Status} kind=${kind}><span>${who && html`<b><${Text} value=${who} limit=${80} /></b> `}<${Text} value=${title} limit=${160} /></span><//>${step.seconds != null && html` <span class="hint">${took < 0.0001 ? "< 0.1 ms" : duration(took)}</span>`}</span>
          ${text && html`<p class="hint"><${Text} value=${text} limit=${300} /></p>`}
          <svg class="place" width="100%" height="3" aria-hidden="true"><rect class="track" width="100%" height="3" rx="1.5" /><rect class="fill" x=${`${from.toFixed(2)}%`} width=${`${Math.max(0.5, Math.min(100 - from, (took / span) * 100)).toFixed(2)}%`} height="3" rx="1.5" /></svg>
        </div>
      </li>`;
    })}
  </ol>`;
}
