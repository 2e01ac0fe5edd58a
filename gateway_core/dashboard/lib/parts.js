// Parts that pages are made of: headings, buttons, states, tabs, drawers, questions, messages.
import { Icon, Status } from "./icons.js";
import { store, useStore } from "./store.js";
import { Text, visible } from "./text.js";
import { Component, cls, html, useEffect, useId, useRef, useState } from "./ui.js";

export { Icon, Status };

/** The heading of a page, with its actions. It takes the focus when the page is opened. */
export function Heading({ title, children, note }) {
  return html`<header class="heading">
    <div>
      <h1 tabindex="-1" id="title">${title}</h1>
      ${note && html`<p class="note">${note}</p>`}
    </div>
    ${children && html`<div class="actions">${children}</div>`}
  </header>`;
}

/** A part of a page with its own heading. */
export function Panel({ title, children, actions, class: name, flush = false }) {
  const id = useId();
  return html`<section class=${cls("panel", flush && "flush", name)} aria-labelledby=${title ? id : undefined}>
    ${title &&
    html`<header><h2 id=${id}>${title}</h2>${actions && html`<div class="actions">${actions}</div>`}</header>`}
    ${children}
  </section>`;
}

/**
 * A button that does something on the gateway. While it works it is busy, and a failure becomes a message.
 * `changes`: disabled where this browser may only read. `why`: reason why it cannot be used now.
 */
export function Action({ run, children, changes = false, why = "", kind = "", small = false, ...rest }) {
  const [busy, setBusy] = useState(false);
  const canChange = useStore((it) => it.canChange);
  const reason = why || (changes && !canChange ? "this browser may only read; `rad mcp proxy ui` opens one that may change" : "");
  const alive = useRef(true);
  useEffect(() => () => void (alive.current = false), []);
  async function click() {
    if (reason || busy) return;
    setBusy(true);
    try {
      await run();
    } catch (error) {
      toast("bad", error.message);
    }
    if (alive.current) setBusy(false);
  }
  return html`<button
    type="button"
    ...${rest}
    class=${cls("button", kind, small && "small", busy && "busy")}
    aria-disabled=${reason || busy ? "true" : undefined}
    title=${reason || rest.title}
    onClick=${click}
  >
    ${children}
  </button>`;
}

export const Loading = ({ what = "" }) => html`<p class="state loading" role="status">Loading${what && ` ${what}`}…</p>`;

/** Nothing to show, and why that is so. */
export const Empty = ({ title, children, icon }) =>
  html`<div class="state empty">${icon && html`<${Icon} name=${icon} size="24" />`}<p>${title}</p>${children && html`<div class="hint">${children}</div>`}</div>`;

/** What went wrong while the content was fetched. */
export function Failure({ error, what, retry }) {
  const absent = error.status === 404;
  return html`<div class="state failure" role="alert">
    <p><${Status} kind="bad">${what ? `${what}: ` : ""}<${Text} value=${error.message} limit=${400} /><//></p>
    ${absent && html`<p class="hint">This gateway does not offer it. The rest of the dashboard works.</p>`}
    ${retry && html`<button type="button" class="button small" onClick=${retry}>Try again</button>`}
  </div>`;
}

/** The content of a resource (see `useResource`), or its state. Old content stays visible beside an error. */
export function Loaded({ of, what, children }) {
  if (of.data) {
    return html`${of.error && html`<p class="stale" role="status"><${Status} kind="warn">Not up to date: <${Text} value=${of.error.message} /><//></p>`}${children(of.data)}`;
  }
  return of.error ? html`<${Failure} error=${of.error} what=${what} retry=${of.reload} />` : html`<${Loading} what=${what} />`;
}

/** Catches what a page throws while it is rendered, so that the rest of the dashboard stays. */
export class Boundary extends Component {
  constructor() {
    super();
    this.state = { error: null };
  }

  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidCatch(error) {
    console.error(error);
  }

  render({ children }, { error }) {
    if (!error) return children;
    return html`<div class="state failure" role="alert">
      <p><${Status} kind="bad">This page failed: <${Text} value=${error.message} limit=${400} /><//></p>
      <button type="button" class="button small" onClick=${() => this.setState({ error: null })}>Try again</button>
    </div>`;
  }
}

/** Rows of a name and a value; null values are left out. */
export const Facts = ({ rows }) =>
  html`<dl class="facts">
    ${rows.filter((row) => row && row[1] != null && row[1] !== "").map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;

/** One figure with its name. `kind` colours it; `detail` stands below. */
export const Figure = ({ name, value, unit, detail, kind, children }) =>
  html`<div class=${cls("figure", kind && `is-${kind}`)}>
    <dt>${name}</dt>
    <dd><span class="value">${value}${unit && html`<small> ${unit}</small>`}</span>${children}${detail && html`<span class="detail">${detail}</span>`}</dd>
  </div>`;

/** Text to copy, with a button. */
export function Copyable({ text }) {
  const [copied, setCopied] = useState(false);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      toast("warn", "the browser does not allow copying here; select the text instead");
    }
  }
  return html`<span class="copyable"><code>${visible(text)}</code><button type="button" class="button small" onClick=${copy}>${copied ? "Copied" : "Copy"}</button></span>`;
}

// --- dialogs

function useModal(onClose) {
  const element = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  return {
    ref: element,
    onCancel: (event) => {
      event.preventDefault();
      onClose();
    },
    onClick: (event) => event.target === element.current && onClose(),
  };
}

/** A dialog over the page; Escape and a click beside it close it. */
export function Dialog({ title, onClose, children, wide = false }) {
  const id = useId();
  return html`<dialog class=${cls("dialog", wide && "wide")} aria-labelledby=${id} ...${useModal(onClose)}>
    <div class="inner">
      <header><h2 id=${id}>${title}</h2><button type="button" class="button plain" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button></header>
      ${children}
    </div>
  </dialog>`;
}

/** Details at the side of the page; Escape and a click beside it close it. */
export function Drawer({ title, onClose, children }) {
  const id = useId();
  return html`<dialog class="drawer" aria-labelledby=${id} ...${useModal(onClose)}>
    <div class="inner">
      <header><h2 id=${id}>${title}</h2><button type="button" class="button plain" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button></header>
      <div class="content" tabindex="0" role="region" aria-label="Details">${children}</div>
    </div>
  </dialog>`;
}

let question = null; // {title, body, verb, danger, resolve}
const questions = new Set();
const asked = () => questions.forEach((render) => render());

/** Ask before something is done. Resolves to whether the user agreed. */
export function confirm({ title, body, verb = "Continue", danger = false }) {
  question?.resolve(false);
  return new Promise((resolve) => {
    question = { title, body, verb, danger, resolve };
    asked();
  });
}

/** Shows the question of `confirm`; the shell has one. */
export function Questions() {
  const [, set] = useState(0);
  useEffect(() => {
    const render = () => set((turn) => turn + 1);
    questions.add(render);
    return () => questions.delete(render);
  }, []);
  if (!question) return null;
  const { title, body, verb, danger, resolve } = question;
  const end = (answer) => {
    question = null;
    resolve(answer);
    asked();
  };
  return html`<${Dialog} title=${title} onClose=${() => end(false)}>
    <div class="body">${body}</div>
    <footer>
      <button type="button" class="button" onClick=${() => end(false)}>Cancel</button>
      <button type="button" class=${cls("button", danger ? "danger" : "primary")} onClick=${() => end(true)}>${verb}</button>
    </footer>
  <//>`;
}

// --- messages

let messages = [];
let messageId = 0;
const rendered = new Set();
const said = () => rendered.forEach((render) => render());
const close = (id) => {
  messages = messages.filter((one) => one.id !== id);
  said();
};

/** Show a message. `kind`: ok and info disappear, warn and bad stay until they are closed. */
export function toast(kind, text) {
  const id = (messageId += 1);
  messages = [...messages.filter((one) => one.text !== text), { id, kind, text: String(text) }].slice(-4);
  if (kind === "ok" || kind === "info") setTimeout(() => close(id), 6000);
  said();
}

/** Shows the messages; the shell has one. */
export function Messages() {
  const [, set] = useState(0);
  useEffect(() => {
    const render = () => set((turn) => turn + 1);
    rendered.add(render);
    return () => rendered.delete(render);
  }, []);
  return html`<div class="messages" role="status" aria-live="polite">
    ${messages.map(
      ({ id, kind, text }) => html`<div class=${`message is-${kind}`} key=${id}>
        <${Status} kind=${kind}><${Text} value=${text} limit=${300} /><//>
        <button type="button" class="button plain" aria-label="Close message" onClick=${() => close(id)}><${Icon} name="close" size="14" /></button>
      </div>`,
    )}
  </div>`;
}

/** Whether something may be changed from this browser; for pages that hide what cannot be used. */
export const mayChange = () => store.canChange;
