// What the states of servers mean, for people.
import { html } from "./ui.js";
import { Status } from "./icons.js";

const STATES = {
  healthy: ["ok", "healthy"],
  connecting: ["busy", "connecting"],
  ejected: ["warn", "ejected"],
  draining: ["warn", "draining"],
  needs_login: ["warn", "login due"],
  down: ["bad", "down"],
  misconfigured: ["bad", "misconfigured"],
  disabled: ["idle", "disabled"],
  idle: ["idle", "idle"],
  stopped: ["idle", "stopped"],
};
const ORDER = ["misconfigured", "down", "needs_login", "ejected", "draining", "connecting", "healthy", "idle", "stopped", "disabled"];

export const stateKind = (state) => STATES[state]?.[0] ?? "info";
export const stateWord = (state) => STATES[state]?.[1] ?? String(state);
/** For sorting: what needs attention comes first. */
export const stateRank = (state) => (ORDER.indexOf(state) + ORDER.length) % ORDER.length;

/** Whether an operator has kept new calls from it. */
export const isDraining = (of) => Boolean(of.drained);

/** Whether the operator has to log in. Where each user logs in, the operator may. */
export const isLoginDue = (of) => of.state === "needs_login" || Boolean(of.login?.needed && of.login.users == null);

function words(of) {
  if (of.state === "draining") return of.in_flight ? "draining" : "drained";
  return stateWord(of.state) + (isDraining(of) ? ", drained" : "");
}

export const ServerState = ({ of }) => html`<${Status} kind=${stateKind(of.state)}>${words(of)}<//>`;
