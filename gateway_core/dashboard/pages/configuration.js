// Configuration: the file, its problems at their lines, what a change would do, and applying it.
import * as api from "../lib/api.js";
import { Differences } from "../lib/differences.js";
import { Editor, showLine } from "../lib/editor.js";
import { Action, Dialog, Failure, Heading, Loading, Panel, Status, confirm, toast } from "../lib/parts.js";
import { store, useStore } from "../lib/store.js";
import { Text, count, visible } from "../lib/text.js";
import { html, useEffect, useId, useMemo, useRef, useState } from "../lib/ui.js";

const PAUSE = 500; // ms after the last key before the text is checked
const INVISIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u;

let draft = null; // {version, base, text}: an edit that another page must not lose

export default function Configuration() {
  const canChange = useStore((it) => it.canChange);
  const [file, setFile] = useState(null);
  const [error, setError] = useState(null);
  const load = async () => {
    setError(null);
    try {
      setFile(await api.get("/admin/config"));
    } catch (problem) {
      setError(problem);
    }
  };
  useEffect(() => void load(), []);
  if (error) return html`<${Heading} title="Configuration" /><${Failure} error=${error} what="Configuration" retry=${load} />`;
  if (!file) return html`<${Heading} title="Configuration" /><${Loading} what="the file" />`;
  return html`<${File} key=${file.version} file=${file} load=${load} mayEdit=${canChange && file.writable} />`;
}

function File({ file, load, mayEdit }) {
  const canChange = useStore((it) => it.canChange);
  const kept = draft?.version === file.version ? draft.text : null;
  const [text, setText] = useState(kept ?? file.text);
  const [check, setCheck] = useState({ state: "idle", problems: [] });
  const [review, setReview] = useState(null);
  const field = useRef(null);
  const problemsId = useId();
  const dirty = text !== file.text;
  const lost = draft !== null && draft.version !== file.version;

  useEffect(() => {
    if (dirty) draft = { version: file.version, base: file.text, text };
    else if (draft?.version === file.version) draft = null;
    const leave = (event) => event.preventDefault();
    if (dirty) addEventListener("beforeunload", leave);
    return () => removeEventListener("beforeunload", leave);
  }, [text, dirty]);

  useEffect(() => {
    if (!dirty) {
      setCheck({ state: "idle", problems: [] });
      return undefined;
    }
    const abort = new AbortController();
    setCheck((now) => ({ ...now, state: "checking" }));
    const timer = setTimeout(async () => {
      try {
        const found = await api.post("/admin/config/validate", { text }, { signal: abort.signal });
        setCheck({ state: found.valid ? "valid" : "wrong", problems: found.problems ?? [] });
      } catch (error) {
        if (!abort.signal.aborted) setCheck({ state: "failed", problems: error.problems, error });
      }
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [text]);

  const hidden = useMemo(() => invisibleIn(text), [text]);
  const problems = [...check.problems, ...hidden];
  const marks = new Map(problems.filter((one) => one.line).map((one) => [one.line, one.text]));

  async function discard() {
    const agreed = await confirm({ title: "Discard the changes?", body: html`<p>The text becomes that of the file again.</p>`, verb: "Discard", danger: true });
    if (agreed) setText(file.text);
  }

  async function prepare() {
    try {
      setReview({ report: await api.post("/admin/config/diff", { text }) });
    } catch (error) {
      if (!error.problems.length) throw error;
      setCheck({ state: "wrong", problems: error.problems });
    }
  }

  async function apply() {
    try {
      const report = await api.put("/admin/config", { text, version: file.version });
      draft = null;
      setReview(null);
      const changes = report.changes?.length ?? 0;
      toast("ok", `${count(changes, "change")} applied${report.generation ? `; generation ${report.generation} is in force` : ""}`);
      await Promise.all([load(), store.refresh()]);
    } catch (error) {
      setReview(null);
      if (error.problems.length) setCheck({ state: "wrong", problems: error.problems });
      // With status 500, the file and the configuration may have changed.
      const before = { 409: "Not applied: ", 500: "" }[error.status] ?? "Nothing was changed: ";
      toast("bad", before + error.message);
    }
  }

  return html`
    <${Heading} title="Configuration" note=${html`<code><${Text} value=${file.path ?? "no file"} /></code>`}>
      ${mayEdit && dirty && html`<${Action} run=${discard}>Discard<//>`}
      ${mayEdit && html`<${Action} changes kind="primary" run=${prepare} why=${!dirty ? "the text is that of the file" : check.state === "wrong" ? "the text has problems" : ""}>Review and apply<//>`}
    <//>
    ${!mayEdit && html`<p class="banner quiet"><${Status} kind="info">Read only.<//> ${!canChange ? html`This browser may not change anything; <code>rad mcp proxy ui</code> opens one that may.` : html`<${Text} value=${file.reason ?? "The file cannot be written."} limit=${400} />`}</p>`}
    ${lost && html`<p class="banner" role="alert"><${Status} kind="warn">The file was changed since you began to edit.<//> <button type="button" class="link" onClick=${() => setText(draft.text)}>Take your text</button> or <button type="button" class="link" onClick=${() => { draft = null; setText(file.text + ""); load(); }}>keep that of the file</button></p>`}
    <${Pending} load=${load} />
    <${Panel} flush class="file">
      <div class="bar" role="status" id=${problemsId}><${Checked} check=${check} dirty=${dirty} problems=${problems} show=${(line) => showLine(field.current, line)} /></div>
      <${Editor} label="Configuration file" value=${text} onInput=${setText} readOnly=${!mayEdit} marks=${marks} place=${field} describedBy=${problemsId} />
    <//>
    <p class="hint below">Secrets that stand in the file are hidden. Leave their marks as they are, and the file keeps the secrets.</p>
    ${review && html`<${Review} before=${file.text} after=${text} report=${review.report} apply=${apply} close=${() => setReview(null)} />`}`;
}

const invisibleIn = (text) =>
  text.split("\n").flatMap((line, at) => {
    const found = INVISIBLE.exec(line);
    return found ? [{ line: at + 1, text: `this line has an invisible character: ${visible(found[0])}`, mild: true }] : [];
  });

function Checked({ check, dirty, problems, show }) {
  const states = {
    idle: ["idle", dirty ? "Edited" : "As in the file"],
    checking: ["busy", "Checking"],
    valid: ["ok", "Valid"],
    wrong: ["bad", count(problems.length, "problem")],
    failed: ["warn", `Not checked: ${check.error?.message ?? ""}`],
  };
  const [kind, word] = states[check.state];
  return html`<${Status} kind=${kind}><${Text} value=${word} limit=${300} /><//>
    ${problems.length > 0 &&
    html`<ul class="problems">
      ${problems.slice(0, 50).map((one, at) => html`<li key=${at}>
        ${one.line ? html`<button type="button" class="link" onClick=${() => show(one.line)}>Line ${one.line}</button>` : html`<span class="hint">File</span>`}
        <span><${Text} value=${[one.key, one.message ?? one.text].filter(Boolean).join(": ")} limit=${500} /></span>
      </li>`)}
    </ul>`}`;
}

/** What stands in the file and is not in force, after an edit elsewhere. */
function Pending({ load }) {
  const canChange = useStore((it) => it.canChange);
  const [report, setReport] = useState(null);
  const [error, setError] = useState(null);
  const generation = useStore((it) => it.status?.generation);
  const look = async () => {
    try {
      setReport(await api.get("/admin/diff"));
      setError(null);
    } catch (problem) {
      setReport(null);
      setError(problem.status === 422 ? problem : null);
    }
  };
  useEffect(() => void look(), [generation]);
  if (error) return html`<div class="banner" role="alert"><${Status} kind="bad">The file is not accepted, so a reload would refuse it.<//> <${Text} value=${error.message} limit=${400} /></div>`;
  const changes = report?.changes ?? [];
  if (!changes.length) return null;
  const onlyRestart = changes.every((one) => one.restart);
  async function reload() {
    const done = await api.post("/admin/reload");
    toast("ok", `${count(done.changes.length, "change")} applied; generation ${done.generation} is in force`);
    await Promise.all([look(), load(), store.refresh()]);
  }
  return html`<details class="banner quiet pending">
    <summary><${Status} kind="warn">${count(changes.length, "change")} in the file ${changes.length === 1 ? "is" : "are"} not in force${onlyRestart ? " before a restart" : ""}.<//></summary>
    <${Effects} changes=${changes} />
    ${canChange && !onlyRestart && html`<${Action} small changes run=${reload}>Reload<//>`}
  </details>`;
}

const HOW = { added: "ok", enabled: "ok", removed: "bad", disabled: "warn", changed: "info", moved: "info" };

const Effects = ({ changes }) =>
  html`<ul class="effects">
    ${changes.map((one, at) => html`<li key=${at}>
      <${Status} kind=${HOW[one.how] ?? "info"}>${visible(one.how)}<//>
      <span>${one.kind !== "setting" && `${visible(one.kind)} `}<code><${Text} value=${one.name} /></code>${one.details?.length > 0 && html` <span class="hint"><${Text} value=${one.details.join("; ")} limit=${400} /></span>`}
        ${one.restart && html`<br /><${Status} kind="warn">needs a restart: <${Text} value=${one.restart} /><//>`}</span>
    </li>`)}
  </ul>`;

function Review({ before, after, report, apply, close }) {
  const changes = report.changes ?? [];
  return html`<${Dialog} title="Review the change" onClose=${close} wide>
    <section><h3>What it does</h3>
      ${changes.length ? html`<${Effects} changes=${changes} />` : html`<p class="hint">Nothing: the gateway behaves as before. Only the text of the file changes.</p>`}
    </section>
    <section><h3>What it changes in the file</h3>
      <${Differences} before=${before} after=${after} label="Lines that differ" />
    </section>
    <footer><button type="button" class="button" onClick=${close}>Cancel</button><${Action} changes kind="primary" run=${apply}>Apply<//></footer>
  <//>`;
}
