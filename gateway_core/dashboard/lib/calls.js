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

/** One step of a timeline: {kind, title, who, text}. */
export function stepOf({ what, who, text = "" }) {
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

/** The steps of a call in order, each with the time since the first. */
export function Timeline({ steps, seconds }) {
  if (!steps.length) return html`<p class="hint">Nothing was recorded.</p>`;
  const first = steps[0].at;
  const span = Math.max(seconds || 0, steps.at(-1).at - first, 1e-6);
  return html`<ol class="timeline">
    ${steps.map((step, at) => {
      const { kind, title, who, text } = stepOf(step);
      const since = Math.max(0, step.at - first);
      return html`<li key=${at} class=${`is-${kind}`}>
        <span class="when">${at === 0 ? "0 ms" : since < 0.0001 ? "< 0.1 ms" : `+${duration(since)}`}</span>
        <div>
          <span class="step"><${Status} kind=${kind}><span>${who && html`<b><${Text} value=${who} limit=${80} /></b> `}<${Text} value=${title} limit=${80} /></span><//></span>
          ${text && html`<p class="hint"><${Text} value=${text} limit=${300} /></p>`}
          <svg class="place" width="100%" height="3" aria-hidden="true"><rect class="track" width="100%" height="3" rx="1.5" /><rect class="fill" width=${`${Math.max(0.5, Math.min(100, (since / span) * 100)).toFixed(2)}%`} height="3" rx="1.5" /></svg>
        </div>
      </li>`;
    })}
  </ol>`;
}
