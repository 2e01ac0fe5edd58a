// Questions: calls that wait for people, and what an operator may do about them.
import * as api from "../lib/api.js";
import { path } from "../lib/api.js";
import { Agent } from "../lib/calls.js";
import { Action, Empty, Heading, Loaded, Panel, Status, confirm, toast } from "../lib/parts.js";
import { address } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Block, Text, count, duration } from "../lib/text.js";
import { html, useState } from "../lib/ui.js";

const KINDS = {
  open: ["busy", "Open", "The agent is being asked; its user answers there."],
  parked: ["warn", "Parked", "The agent has to come back with the answer."],
  approval: ["warn", "Approval", "A plugin waits for a yes or a no."],
};
const SHOWN = 100;

export default function Questions() {
  const of = useResource("/admin/questions", { every: 3000, on: ["question"] });
  return html`<${Heading} title="Questions" note="Calls that wait for an answer of a person. The longest wait comes first." />
    <${Loaded} of=${of} what="Questions">${({ questions }) => html`<${List} questions=${questions} reload=${() => of.reload()} />`}<//>`;
}

function List({ questions, reload }) {
  const [kind, setKind] = useState("");
  const kinds = Object.keys(KINDS).filter((one) => questions.some((it) => it.kind === one));
  const found = questions.filter((one) => !kind || one.kind === kind);
  if (!questions.length) return html`<${Panel}><${Empty} title="No question waits" icon="questions">Questions of servers to users of agents, and of plugins that want an approval, appear here.<//><//>`;
  return html`
    ${kinds.length > 1 && html`<div class="actions filters" role="group" aria-label="Kind">${[["", "All", questions.length], ...kinds.map((one) => [one, KINDS[one][1], questions.filter((it) => it.kind === one).length])].map(([value, title, total]) => html`<button type="button" key=${value} class="button small" aria-pressed=${kind === value} onClick=${() => setKind(value)}>${title} ${total}</button>`)}</div>`}
    <ul class="cards">${found.slice(0, SHOWN).map((one) => html`<${Question} key=${one.id} of=${one} reload=${reload} />`)}</ul>
    ${found.length > SHOWN && html`<p class="hint">${count(found.length - SHOWN, "more question waits", "more questions wait")}.</p>`}`;
}

function Question({ of, reload }) {
  const [kind, title, meaning] = KINDS[of.kind] ?? ["info", of.kind, ""];
  const may = (what) => (of.allowed ?? []).includes(what);
  async function act(what, body, said) {
    try {
      await api.post(path`/admin/questions/${of.id}/` + what, body);
      toast("ok", said);
    } finally {
      await reload();
    }
  }
  async function cancel() {
    const agreed = await confirm({ title: "Cancel this call?", body: html`<p>Its question is withdrawn, and the agent gets an error.</p>`, verb: "Cancel the call", danger: true });
    if (agreed) await act("cancel", undefined, "The call was cancelled");
  }
  const source = of.source || of.upstream;
  return html`<li class="card-of-question panel">
    <header>
      <${Status} kind=${kind}>${title}<//>
      <span class="hint">waits for ${duration(of.seconds)}</span>
    </header>
    <h2><a href=${address("calls", [of.exchange])}><${Text} value=${of.name || of.method} limit=${100} /></a></h2>
    <p class="hint">${source && html`<b><${Text} value=${source} limit=${60} /></b> asks `}<${Agent} id=${of.agent} link />. ${meaning}</p>
    ${of.text && html`<${Block} value=${of.text} limit=${1200} label="Question" />`}
    <div class="actions">
      ${may("approve") && html`<${Action} changes kind="primary" run=${() => act("answer", { approve: true }, "Approved")}>Approve<//>`}
      ${may("deny") && html`<${Action} changes kind="danger" run=${() => act("answer", { approve: false }, "Denied")}>Deny<//>`}
      ${may("cancel") && html`<${Action} changes run=${cancel}>Cancel the call<//>`}
      ${!(of.allowed ?? []).length && html`<span class="hint">Only the user of the agent may answer.</span>`}
    </div>
  </li>`;
}
