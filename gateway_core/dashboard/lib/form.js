// A form for a JSON Schema, or a field for JSON where the schema is none that a form can show.
import { Icon, Status } from "./icons.js";
import { collect, draftOf, fieldOf, limitsOf, withMember } from "./schema.js";
import { Prose, Text, visible } from "./text.js";
import { cls, html, useId, useMemo, useState } from "./ui.js";

const MAX_ITEMS = 100;

/** The state of a form: {field, mode, draft, json, …}; see `SchemaForm`. */
export function useForm(schema) {
  const field = useMemo(() => ({ ...fieldOf(schema), required: true }), [schema]);
  const only = field.kind !== "object";
  const start = () => ({ mode: only ? "json" : "form", draft: draftOf(field, undefined), json: only ? "{}" : "", checked: false, why: "" });
  const [held, setHeld] = useState(() => ({ field, state: start() }));
  const state = held.field === field ? held.state : start();
  const set = (change) => setHeld((now) => ({ field, state: { ...(now.field === field ? now.state : state), ...change } }));

  function result() {
    if (state.mode === "form") return collect(field, state.draft);
    try {
      const value = JSON.parse(state.json);
      const good = typeof value === "object" && value !== null && !Array.isArray(value);
      return good ? { value, errors: new Map() } : { value: undefined, errors: new Map([["", "an object is needed: {…}"]]) };
    } catch (error) {
      return { value: undefined, errors: new Map([["", `not JSON: ${error.message}`]]) };
    }
  }

  function toJson() {
    const { value } = collect(field, state.draft);
    set({ mode: "json", json: JSON.stringify(value ?? {}, null, 2), why: "" });
  }

  function toForm() {
    const { value, errors } = result();
    if (errors.size) return set({ checked: true, why: "" });
    try {
      return set({ mode: "form", draft: draftOf({ ...field, fallback: undefined }, value), why: "", checked: false });
    } catch (error) {
      return set({ why: error.message });
    }
  }

  /** The value, or undefined if something is wrong; the form shows what. */
  function take() {
    const { value, errors } = result();
    set({ checked: true });
    return errors.size ? undefined : value;
  }
  return { field, only, ...state, set, toJson, toForm, take, result };
}

/** The fields of a form from `useForm`. `empty`: what to say if there are none. */
export function SchemaForm({ of, empty = "It takes no arguments.", label = "Arguments" }) {
  const { errors } = of.checked ? of.result() : { errors: new Map() };
  const id = useId();
  return html`<div class="form">
    <div class="modes" role="group" aria-label=${`${label}: how to write them`}>
      <button type="button" class="button small" aria-pressed=${of.mode === "form"} disabled=${of.only} onClick=${() => of.mode !== "form" && of.toForm()}>Form</button>
      <button type="button" class="button small" aria-pressed=${of.mode === "json"} onClick=${() => of.mode !== "json" && of.toJson()}>JSON</button>
      ${of.only && html`<span class="hint">This schema needs JSON.</span>`}
    </div>
    ${of.why && html`<p role="alert"><${Status} kind="warn">Stays JSON: <${Text} value=${of.why} limit=${200} /><//></p>`}
    ${of.mode === "json"
      ? html`<div class="field">
          <label for=${id}>${label} as JSON</label>
          <textarea id=${id} class="mono" rows=${Math.min(18, Math.max(6, of.json.split("\n").length + 1))} spellcheck=${false} value=${of.json} aria-invalid=${errors.size > 0} aria-describedby=${`${id}-wrong`}
            onInput=${(event) => of.set({ json: event.currentTarget.value })} />
          <${Wrong} id=${`${id}-wrong`} text=${errors.get("")} />
        </div>`
      : of.field.fields.length
        ? html`<${Members} field=${of.field} draft=${of.draft} path="" errors=${errors} change=${(draft) => of.set({ draft })} />`
        : html`<p class="hint">${empty}</p>`}
  </div>`;
}

const Wrong = ({ id, text }) => html`<p class="wrong" id=${id} role=${text ? "alert" : undefined}>${text && html`<${Status} kind="bad"><${Text} value=${text} limit=${200} /><//>`}</p>`;

const escaped = (name) => name.replaceAll("~", "~0").replaceAll("/", "~1");

const Members = ({ field, draft, path, errors, change }) =>
  field.fields.map(([name, one]) => html`<${Field} key=${name} name=${name} field=${one} draft=${draft[name]} path=${`${path}/${escaped(name)}`} errors=${errors} change=${(member) => change(withMember(draft, name, member))} />`);

function Field({ name, field, draft, path, errors, change }) {
  const id = useId();
  const wrong = errors.get(path);
  const limits = limitsOf(field);
  const group = field.kind === "object" || field.kind === "list" || field.kind === "choices";
  const title = html`<span class="label"><span class="mono"><${Text} value=${name} limit=${80} /></span>${field.required ? html` <span class="needed">required</span>` : ""}${limits && html` <span class="hint"><${Text} value=${limits} limit=${120} /></span>`}</span>`;
  const described = [field.description && `${id}-about`, `${id}-wrong`].filter(Boolean).join(" ");
  const about = field.description && html`<p class="hint" id=${`${id}-about`}><${Prose} value=${field.description} limit=${600} /></p>`;
  const common = { id, "aria-describedby": described, "aria-invalid": Boolean(wrong), "aria-required": field.required || undefined };
  if (group) {
    return html`<fieldset class="field group" aria-describedby=${described}>
      <legend>${title}</legend>
      ${about}
      ${field.kind === "object" && html`<${Members} field=${field} draft=${draft} path=${path} errors=${errors} change=${change} />`}
      ${field.kind === "list" && html`<${List} field=${field} draft=${draft} path=${path} errors=${errors} change=${change} name=${name} />`}
      ${field.kind === "choices" && html`<div class="several">${field.choices.map((one, at) => html`<label class="check" key=${at}><input type="checkbox" checked=${draft.includes(String(at))} onChange=${(event) => change(event.currentTarget.checked ? [...draft, String(at)].sort((a, b) => a - b) : draft.filter((it) => it !== String(at)))} /> <${Text} value=${one.title} limit=${80} /></label>`)}</div>`}
      <${Wrong} id=${`${id}-wrong`} text=${wrong} />
    </fieldset>`;
  }
  return html`<div class="field">
    <label for=${id}>${title}</label>
    <${Input} field=${field} draft=${draft} common=${common} change=${change} />
    ${about}
    <${Wrong} id=${`${id}-wrong`} text=${wrong} />
  </div>`;
}

function Input({ field, draft, common, change }) {
  const typed = (event) => change(event.currentTarget.value);
  if (field.kind === "boolean" || field.kind === "choice") {
    const choices = field.kind === "boolean" ? [["true", "true"], ["false", "false"]] : field.choices.map((one, at) => [String(at), visible(one.title).slice(0, 120)]);
    return html`<select ...${common} value=${draft} onChange=${typed}>
      <option value="" selected=${draft === ""}>${field.required ? "choose…" : "not set"}</option>
      ${choices.map(([value, title]) => html`<option key=${value} value=${value} selected=${value === draft}>${title}</option>`)}
    </select>`;
  }
  if (field.kind === "json") return html`<textarea ...${common} class="mono" rows="4" spellcheck=${false} value=${draft} onInput=${typed} placeholder="JSON" />`;
  if (field.kind === "string" && (draft.includes("\n") || draft.length > 80 || field.schema?.maxLength > 200)) return html`<textarea ...${common} rows="4" value=${draft} onInput=${typed} />`;
  return html`<input ...${common} type="text" inputmode=${field.kind === "integer" ? "numeric" : field.kind === "number" ? "decimal" : undefined} autocomplete="off" spellcheck=${false} value=${draft} onInput=${typed} class=${cls(field.kind !== "string" && "short")}
    placeholder=${field.fallback === undefined ? undefined : visible(JSON.stringify(field.fallback)).slice(0, 60)} />`;
}

function List({ field, draft, path, errors, change, name }) {
  const replace = (at, item) => change(draft.map((one, index) => (index === at ? item : one)));
  return html`<ol class="items">
      ${draft.map((item, at) => html`<li key=${at}>
        <${Field} name=${`${name} ${at + 1}`} field=${{ ...field.item, required: false }} draft=${item} path=${`${path}/${at}`} errors=${errors} change=${(made) => replace(at, made)} />
        <button type="button" class="button plain" aria-label=${`Remove ${visible(name)} ${at + 1}`} onClick=${() => change(draft.filter((_, index) => index !== at))}><${Icon} name="close" size="14" /></button>
      </li>`)}
    </ol>
    <button type="button" class="button small" disabled=${draft.length >= MAX_ITEMS} onClick=${() => change([...draft, draftOf(field.item, undefined)])}>Add</button>`;
}
