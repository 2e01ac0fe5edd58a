// Trying one entry of the catalog out: its form, the questions that come back, and the raw exchange.
import * as api from "./api.js";
import { Outcome } from "./calls.js";
import { SchemaForm, useForm } from "./form.js";
import { Action, Empty, Panel, Status } from "./parts.js";
import { address } from "./router.js";
import { useStore } from "./store.js";
import { Block, Prose, Text, bytes, duration, visible } from "./text.js";
import { html, useId, useMemo, useRef, useState } from "./ui.js";

const MAX_ROUNDS = 20; // exchanges that are kept
const MAX_QUESTIONS = 20;

/** The schema of the variables of a URI template, or of the arguments of a prompt. */
function schemaOf({ kind, name, row, schema }) {
  if (kind === "tool") return schema ?? {};
  const listed = kind === "prompt" ? (row?.arguments ?? []) : kind === "template" ? variablesOf(name).map((one) => ({ name: one, required: true })) : [];
  const properties = Object.fromEntries(listed.map(({ name: key, description }) => [key, { type: "string", description }]));
  return { type: "object", properties, required: listed.filter((one) => one.required).map((one) => one.name) };
}

const EXPRESSION = /\{([+#./;?&]?)([^{}]*)\}/g;
const variablesOf = (template) => [...new Set([...template.matchAll(EXPRESSION)].flatMap(([, , names]) => names.split(",").map((one) => one.replace(/(\*|:\d+)$/, ""))).filter(Boolean))].slice(0, 50);

/** A URI of a template (RFC 6570, with texts as values). */
export function expanded(template, values) {
  const given = (key) => values[key] ?? "";
  return template.replace(EXPRESSION, (_, operator, names) => {
    const keys = names.split(",").map((one) => one.replace(/(\*|:\d+)$/, ""));
    const encode = operator === "+" || operator === "#" ? encodeURI : encodeURIComponent;
    const named = operator === "?" || operator === "&" || operator === ";";
    const found = keys.filter((key) => given(key) !== "").map((key) => (named ? `${key}=` : "") + encode(given(key)));
    if (!found.length) return "";
    const between = { ".": ".", "/": "/", ";": ";", "?": "&", "&": "&" }[operator] ?? ",";
    return (operator === "+" ? "" : operator) + found.join(between);
  });
}

function requestOf({ kind, name }, value) {
  if (kind === "tool") return { method: "tools/call", params: { name, arguments: value } };
  if (kind === "prompt") return { method: "prompts/get", params: { name, arguments: value } };
  return { method: "resources/read", params: { uri: kind === "template" ? expanded(name, value) : name } };
}

/** The state of a trial of `target`: {kind, name, profile, row, schema}. */
export function useTrial(target) {
  const schema = useMemo(() => schemaOf(target), [target.schema, target.row, target.name]);
  const form = useForm(schema);
  const [rounds, setRounds] = useState([]);
  const [error, setError] = useState(null);
  const pending = useRef(null); // what the next round repeats: {method, params}
  const [asked, setAsked] = useState(null); // the questions of the last response

  async function send(request) {
    setError(null);
    try {
      const done = await api.post("/admin/try", { ...request, profile: target.profile }, { limit: 605_000 });
      setRounds((now) => [...now, done].slice(-MAX_ROUNDS));
      const result = done.response?.result;
      const questions = result?.resultType === "input_required" ? Object.entries(result.inputRequests ?? {}).slice(0, MAX_QUESTIONS) : null;
      setAsked(questions && { questions, state: result.requestState });
      show(questions ? ".asked input, .asked select, .asked textarea, .asked .button" : ".round summary");
    } catch (problem) {
      setError(problem);
    }
  }

  async function run() {
    const value = form.take();
    if (value === undefined) return;
    setRounds([]);
    setAsked(null);
    pending.current = requestOf(target, value);
    await send(pending.current);
  }

  async function answer(responses) {
    const { method, params } = pending.current;
    const state = asked.state === undefined ? {} : { requestState: asked.state };
    await send({ method, params: { ...params, inputResponses: responses, ...state } });
  }
  return { form, rounds, error, asked, run, answer, drop: () => setAsked(null) };
}

/** Bring what came into view, and the focus to it: the form that was there may be gone. */
function show(selector) {
  setTimeout(() => {
    const found = document.querySelector(selector);
    found?.focus({ preventScroll: true });
    found?.scrollIntoView({ block: "nearest" });
  }, 50);
}

const VERBS = { tool: "Call it", resource: "Read it", template: "Read it", prompt: "Get it" };

/** A form and the raw exchange beside it. `children` stand above the form. */
export function Trial({ of, target, ready, children }) {
  const { form, rounds, error, asked } = of;
  const canChange = useStore((it) => it.canChange);
  const submit = (event) => {
    event.preventDefault();
    event.currentTarget.querySelector("[data-run]")?.click();
  };
  return html`<div class="pair try">
    <div class="stack">
    <${Panel} title="Try it out">
      ${children}
      ${!ready
        ? html`<p class="hint">Its definition is not known yet.</p>`
        : html`<form onSubmit=${submit} autocomplete="off">
            ${target.kind === "resource" ? html`<p class="hint">A resource takes no arguments.</p>` : html`<${SchemaForm} of=${form} label=${target.kind === "template" ? "Variables" : "Arguments"} />`}
            <div class="actions run">
              <${Action} changes kind=${asked ? "" : "primary"} data-run run=${of.run}>${VERBS[target.kind]}<//>
              <span class="hint">${canChange ? html`As <code>operator</code>, under the rules and limits for agents.` : "This browser may only read."}</span>
            </div>
            <button type="submit" class="hidden" tabindex="-1" aria-hidden="true">Send</button>
          </form>`}
    <//>
    ${asked && html`<${Questions} key=${rounds.length} of=${asked} answer=${of.answer} drop=${of.drop} />`}
    </div>
    <${Panel} title="Exchange" class="exchange" actions=${rounds.length > 1 && html`<span class="tag">${rounds.length} rounds</span>`}>
        <div role="status">
          ${error && html`<p><${Status} kind="bad"><${Text} value=${error.message} limit=${400} /><//></p>${error.status === 404 && html`<p class="hint">This gateway cannot try requests out.</p>`}`}
          ${rounds.length > 0 && html`<p class="hidden">Response after ${duration(rounds.at(-1).seconds)}</p>`}
        </div>
        ${!rounds.length && !error && html`<${Empty} title="Nothing was sent yet">The request and its response appear here as they are.<//>`}
        ${[...rounds].reverse().map((round, at) => html`<${Round} key=${rounds.length - at} of=${round} number=${rounds.length - at} last=${at === 0} many=${rounds.length > 1} />`)}
    <//>
  </div>`;
}

/** How a response ended, as the outcomes of calls are named. */
function outcomeOf({ error, result }) {
  if (error) return error.data?.outcome === "unknown" ? "unknown" : "error";
  if (result?.resultType === "input_required") return "asked";
  return result?.isError ? "tool_error" : "ok";
}

function Round({ of, number, last, many }) {
  const { request, response = {}, seconds, exchange } = of;
  const size = useMemo(() => new Blob([JSON.stringify(response)]).size, [response]);
  return html`<details class="round" open=${last}>
    <summary>${many && html`<b>${number}.</b> `}<${Outcome} of=${outcomeOf(response)} /> <span class="hint">${duration(seconds)} · ${bytes(size)}</span></summary>
    <${Content} of=${response} number=${number} />
    <h3>Request</h3>
    <${Block} value=${JSON.stringify(request, null, 2)} label=${`Request ${number}`} />
    <h3>Response</h3>
    <${Block} value=${JSON.stringify(response, null, 2)} label=${`Response ${number}`} />
    ${exchange && html`<p class="hint"><a href=${address("calls", [exchange])}>What happened to this call</a></p>`}
  </details>`;
}

/** What a response says, as text. */
function Content({ of: { error, result }, number }) {
  if (error) return html`<div class="notice is-bad"><p><${Text} value=${error.message} limit=${1500} /> <span class="hint">code <${Text} value=${error.code} limit=${20} /></span></p></div>`;
  const parts = [
    ...(Array.isArray(result?.content) ? result.content : []),
    ...(Array.isArray(result?.contents) ? result.contents : []),
    ...(Array.isArray(result?.messages) ? result.messages.map((one) => one?.content) : []),
  ].filter((one) => typeof one === "object" && one !== null).slice(0, 20);
  if (!parts.length) return null;
  return html`<h3>Content</h3>${parts.map((part, at) => html`<${Part} key=${at} of=${part} label=${`Content ${number}.${at + 1}`} />`)}`;
}

function Part({ of, label }) {
  const text = of.text ?? of.resource?.text;
  if (typeof text === "string") return html`<${Block} value=${text} limit=${2000} label=${label} />`;
  const data = of.data ?? of.blob ?? of.resource?.blob;
  const size = typeof data === "string" ? bytes(Math.floor((data.length * 3) / 4)) : "";
  return html`<p class="hint"><${Text} value=${[of.type, of.mimeType ?? of.resource?.mimeType, size, of.uri ?? of.resource?.uri].filter(Boolean).join(", ")} limit=${200} /></p>`;
}

// --- questions

function Questions({ of, answer, drop }) {
  const given = useRef(new Map()); // key -> () => response, or undefined if something is wrong
  async function send(action) {
    const responses = Object.create(null);
    for (const [key] of of.questions) {
      const response = action === "accept" ? given.current.get(key)?.() : { action };
      if (response === undefined) return;
      responses[key] = response;
    }
    await answer(responses);
  }
  return html`<${Panel} title=${of.questions.length === 1 ? "It asks something" : "It asks some things"} class="asked">
    ${of.questions.map(([key, one]) => html`<${Question} key=${key} name=${key} of=${one ?? {}} given=${given.current} />`)}
    ${!of.questions.length && html`<p class="hint">It wants to go on, and asks nothing.</p>`}
    <div class="actions run">
      <${Action} changes kind="primary" run=${() => send("accept")}>Answer<//>
      ${of.questions.length > 0 && html`<${Action} changes run=${() => send("decline")}>Decline<//>`}
      <button type="button" class="button" onClick=${drop}>Leave it open</button>
    </div>
  <//>`;
}

const FREE = { type: "object", additionalProperties: true };

function Question({ name, of, given }) {
  const { method, params = {} } = of;
  const form = useForm(params.requestedSchema ?? FREE);
  const id = useId();
  const isForm = method === "elicitation/create" && params.mode !== "url";
  const [text, setText] = useState("{}");
  const [wrong, setWrong] = useState("");
  given.set(name, () => {
    if (isForm) {
      const content = form.take();
      return content && { action: "accept", content };
    }
    if (method === "elicitation/create") return { action: "accept" };
    try {
      setWrong("");
      return JSON.parse(text);
    } catch (error) {
      return void setWrong(`not JSON: ${error.message}`);
    }
  });
  return html`<div class="question">
    <p class="ask"><${Prose} value=${params.message ?? method} limit=${2000} /></p>
    ${isForm
      ? html`<${SchemaForm} of=${form} empty="It wants a yes only." label="Answer" />`
      : method === "elicitation/create"
        ? html`<p>Open this address, answer there, and come back: <code><${Text} value=${params.url} limit=${2000} /></code></p><p class="hint">The address comes from the server. Look at it before you open it.</p>`
        : html`<div class="field"><label for=${id}>Answer to <code>${visible(method)}</code> as JSON</label><textarea id=${id} class="mono" rows="4" value=${text} aria-invalid=${Boolean(wrong)} onInput=${(event) => setText(event.currentTarget.value)} />${wrong && html`<p class="wrong" role="alert"><${Status} kind="bad">${wrong}<//></p>`}</div>`}
  </div>`;
}
