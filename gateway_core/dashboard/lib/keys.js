// Keyboard shortcuts. They act outside of fields only, and a switch in their help turns them off.
import { Dialog } from "./parts.js";
import { go } from "./router.js";
import { store } from "./store.js";
import { html, useEffect, useState } from "./ui.js";

const SEQUENCE = 1_200; // ms between the two keys of a sequence
const KEY = "radium.shortcuts";

class Keyboard {
  #pages = [];
  #first = 0; // when `g` was pressed
  #help = () => {};

  get on() {
    try {
      return localStorage.getItem(KEY) !== "off";
    } catch {
      return true;
    }
  }

  set on(value) {
    try {
      localStorage.setItem(KEY, value ? "on" : "off");
    } catch {
      // They stay as they are.
    }
  }

  start(pages) {
    this.#pages = pages;
    const pressed = (event) => this.#pressed(event);
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }

  /** Show the help. */
  help() {
    this.#help();
  }

  set onHelp(show) {
    this.#help = show;
  }

  #pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !this.on) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]") || document.querySelector("dialog[open]")) return;
    const key = event.key;
    if (performance.now() - this.#first < SEQUENCE) {
      this.#first = 0;
      const page = this.#pages.find((one) => one.key === key);
      if (page) return this.#done(event, () => go(page.id));
    }
    if (key === "g") this.#first = performance.now();
    else if (key === "?") this.#done(event, () => this.#help());
    else if (key === "/") this.#done(event, () => document.querySelector("main [data-filter]")?.focus());
    else if (key === "r") this.#done(event, () => store.refresh());
    else if (key === "t") this.#done(event, () => document.querySelector("[data-theme-switch]")?.click());
  }

  #done(event, act) {
    event.preventDefault();
    act();
  }
}

export const keyboard = new Keyboard();

/** The dialog that lists the shortcuts; the shell has one. */
export function KeyHelp({ pages }) {
  const [open, setOpen] = useState(false);
  const [on, setOn] = useState(keyboard.on);
  useEffect(() => {
    keyboard.onHelp = () => setOpen(true);
  }, []);
  if (!open) return null;
  const rows = [
    ...pages.map(({ key, title }) => [["g", key], title]),
    [["/"], "Filter"],
    [["r"], "Look again now"],
    [["t"], "Change the theme"],
    [["↑", "↓"], "Move between rows"],
    [["Enter"], "Open a row"],
    [["Esc"], "Close"],
    [["?"], "This help"],
  ];
  return html`<${Dialog} title="Keyboard shortcuts" onClose=${() => setOpen(false)}>
    <dl class="keys">
      ${rows.map(([keys, what]) => html`<div key=${what}><dt>${keys.map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd></div>`)}
    </dl>
    <label class="check"><input type="checkbox" checked=${on} onChange=${(event) => {
      keyboard.on = event.currentTarget.checked;
      setOn(event.currentTarget.checked);
    }} /> Shortcuts of single keys are on</label>
  <//>`;
}
