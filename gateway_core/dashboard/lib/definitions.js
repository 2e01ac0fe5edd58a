// Definitions that servers changed: what the queue says of them, and the view before and after.
import * as api from "./api.js";
import { Differences } from "./differences.js";
import { Action, Dialog, Loaded, Status, toast } from "./parts.js";
import { address, go } from "./router.js";
import { store, useResource } from "./store.js";
import { Text, ago, count, visible } from "./text.js";
import { html } from "./ui.js";

const PATH = "/admin/definitions/changes";
const UNSEEN = { unseen: true, limit: 500 }; // as many as the gateway keeps
const OF_ONE = 4; // entries of one server in the queue
const WORDS = { changed: ["warn", "changed"], added: ["info", "added"], removed: ["info", "removed"] };

/** The changes that no operator has marked as seen; nothing is fetched while there are none. */
export const useUnseen = (status) => useResource(status?.unseen_changes ? `${PATH}${api.query(UNSEEN)}` : "", { every: 60_000, on: ["definitions"] });

/** The address of the view of a server's changes, with one of them open. */
const viewOf = (upstream, id = "") => address("overview", [], { changes: upstream, change: id });

/** The entries of the queue; see `attention`. */
export function attentionOf(changes) {
  const servers = new Map();
  for (const one of changes) servers.set(one.upstream, [...(servers.get(one.upstream) ?? []), one]);
  return [...servers].flatMap(([upstream, all]) => {
    const found = [...all].sort((one, other) => (other.what === "changed") - (one.what === "changed")); // stable
    const shown = found.slice(0, found.length > OF_ONE ? OF_ONE - 1 : OF_ONE).map((one) => {
      const [kind, verb] = WORDS[one.what];
      const members = one.members.map((it) => it.name).join(", ");
      const why = one.what === "changed" ? `It differs in ${members}${one.more ? ` and ${one.more} more` : ""}.` : one.what === "added" ? "Agents see it." : "Agents see it no longer.";
      return { key: `definition ${one.id}`, kind, what: `${one.kind[0].toUpperCase()}${one.kind.slice(1)} ${verb}`, about: `${upstream}: ${one.name}`, why, at: one.at, href: viewOf(upstream, one.id) };
    });
    const rest = found.length - shown.length;
    if (!rest) return shown;
    const kind = found.slice(-rest).some((one) => one.what === "changed") ? "warn" : "info";
    return [...shown, { key: `definitions ${upstream}`, kind, what: count(rest, "more definition changed", "more definitions changed"), about: upstream, why: "Open them to compare.", at: found.at(-1).at, href: viewOf(upstream) }];
  });
}

/** The unseen changes of one server, before and after. `chosen`: the id of the change that is open. */
export function DefinitionChanges({ upstream, chosen }) {
  const close = () => go("overview");
  const of = useResource(`${PATH}${api.query({ ...UNSEEN, upstream })}`, { on: ["definitions"] });
  return html`<${Dialog} title=${`Definitions of ${visible(upstream)}`} onClose=${close} wide>
    <${Loaded} of=${of} what="Changes">${({ changes, left_out: leftOut }) => html`<${List} changes=${changes} leftOut=${leftOut} chosen=${chosen} reload=${of.reload} close=${close} />`}<//>
  <//>`;
}

function List({ changes, leftOut, chosen, reload, close }) {
  async function mark(ids) {
    const { seen } = await api.post(`${PATH}/seen`, { ids });
    toast("ok", `${count(seen, "change")} marked as seen`);
    await Promise.all([reload(), store.refresh()]);
    if (ids.length >= changes.length) close();
  }
  if (!changes.length) {
    return html`<p class="hint">All changes of this server are marked as seen.</p><footer><button type="button" class="button" onClick=${close}>Close</button></footer>`;
  }
  const rank = (one) => (String(one.id) === chosen) * 2 + (one.what === "changed");
  const ordered = [...changes].sort((one, other) => rank(other) - rank(one));
  return html`
    <p class="hint">Agents get the new definitions. Nothing is blocked; mark a change as seen when you have judged it.</p>
    ${ordered.map((one) => html`<${Change} key=${one.id} of=${one} open=${changes.length === 1 || String(one.id) === chosen} mark=${() => mark([one.id])} />`)}
    ${leftOut > 0 && html`<p class="hint">${count(leftOut, "older change")} of all servers were left out, because there was no room.</p>`}
    <footer>
      <button type="button" class="button" onClick=${close}>Close</button>
      ${changes.length > 1 && html`<${Action} changes run=${() => mark(changes.map((one) => one.id))}>Mark all ${changes.length} as seen<//>`}
    </footer>`;
}

function Change({ of, open, mark }) {
  const [kind, verb] = WORDS[of.what];
  const name = visible(of.name);
  return html`<details class="definition-change" open=${open}>
    <summary><${Status} kind=${kind}>${of.kind} <b><${Text} value=${of.name} limit=${100} /></b> ${verb}<//> <span class="hint">${ago(of.at)}</span></summary>
    ${of.members.map((one) => html`<section key=${one.name}>
      <h3><${Text} value=${one.name} limit=${100} />${one.before === null && of.what === "changed" && html` <span class="hint">is new</span>`}${one.after === null && of.what === "changed" && html` <span class="hint">is gone</span>`}${one.cut && html` <span class="hint">the part around the first difference</span>`}</h3>
      <${Differences} before=${one.before} after=${one.after} label=${`${of.kind} ${name}: ${visible(one.name)}, before and after`} />
    </section>`)}
    ${of.more > 0 && html`<p class="hint">${count(of.more, "more member differs", "more members differ")}.</p>`}
    ${!of.members.length && html`<p class="hint">It has no members besides its name.</p>`}
    <div class="actions"><${Action} small changes run=${mark} aria-label=${`Mark as seen: ${name}`}>Mark as seen<//></div>
  </details>`;
}
