// The shell: navigation, theme, keyboard, the state of the connection, and the page that the address names.
import { keyboard, KeyHelp } from "./lib/keys.js";
import { takePageKey } from "./lib/page_key.js";
import { Boundary, Copyable, Failure, Icon, Loading, Messages, Questions, Status, toast } from "./lib/parts.js";
import { address, useRoute } from "./lib/router.js";
import { store, useStore } from "./lib/store.js";
import { duration } from "./lib/text.js";
import { cls, html, render, useEffect, useState } from "./lib/ui.js";
import { PAGES } from "./pages.js";

const loaded = new Map(); // page id -> its component

/** The component of a page, once its module is there. */
function Page({ page, route }) {
  const [, set] = useState(0);
  const [error, setError] = useState(null);
  const [attempt, setAttempt] = useState(0);
  const Content = loaded.get(page.id);
  useEffect(() => {
    if (loaded.has(page.id)) return;
    setError(null);
    page.load().then(
      (module) => {
        loaded.set(page.id, module.default);
        set((turn) => turn + 1);
      },
      () => setError(new Error("the gateway did not send this page")),
    );
  }, [page.id, attempt]);
  useEffect(() => {
    document.title = `${page.title} · Radium MCP gateway`;
  }, [page.id]);
  const first = !useFocusedBefore(page.id, Boolean(Content));
  if (error) return html`<${Failure} error=${error} retry=${() => setAttempt((turn) => turn + 1)} />`;
  if (!Content) return html`<${Loading} />`;
  return html`<${Boundary} key=${page.id}><${Content} parts=${route.parts} options=${route.options} first=${first} /><//>`;
}

let focused = null; // the page whose heading had the focus last; none before the first page
function useFocusedBefore(id, ready) {
  useEffect(() => {
    if (!ready) return;
    if (focused !== null && focused !== id && !document.querySelector("dialog[open]")) {
      document.querySelector("#title")?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    focused = id;
  }, [id, ready]);
  return focused !== null;
}

const THEMES = [
  { id: "system", title: "Theme: system" },
  { id: "light", title: "Theme: light", icon: "sun" },
  { id: "dark", title: "Theme: dark", icon: "moon" },
];

function Theme() {
  const [chosen, choose] = useState(document.documentElement.dataset.theme ?? "system");
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => document.dispatchEvent(new Event("theme"));
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  function next() {
    const to = THEMES[(THEMES.findIndex((one) => one.id === chosen) + 1) % THEMES.length].id;
    if (to === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = to;
    try {
      localStorage.setItem("radium.theme", to);
    } catch {
      // The choice lasts as long as the page.
    }
    choose(to);
    document.dispatchEvent(new Event("theme"));
  }
  const { title, icon } = THEMES.find((one) => one.id === chosen);
  return html`<button type="button" class="button plain" data-theme-switch onClick=${next} title=${`${title}; change`} aria-label=${`${title}; change`}><${Icon} name=${icon ?? "system"} /></button>`;
}

async function signOut() {
  try {
    await store.signOut();
  } catch (error) {
    toast("bad", `Not signed out: ${error.message}`);
  }
}

const CONNECTIONS = {
  connecting: ["busy", "Connecting"],
  live: ["ok", "Live"],
  polling: ["info", "Polling"],
  offline: ["bad", "No answer"],
};

function Connection() {
  const { connection, status, me } = useStore();
  const [kind, text] = CONNECTIONS[connection] ?? CONNECTIONS.connecting;
  return html`<div class="connection">
    <${Status} kind=${kind} title=${connection === "polling" ? "The gateway sends no events; this page asks every two seconds" : undefined}>${text}<//>
    ${me?.right === "read" && html`<span class="tag" title="This browser may not change anything">read only</span>`}
    ${status && html`<span class="hint">v${status.version} · up ${duration(Math.floor(status.uptime))}</span>`}
  </div>`;
}

function Navigation({ current, open, close }) {
  const state = useStore();
  return html`<nav id="navigation" aria-label="Pages" class=${cls(open && "open")}>
    <ul>
      ${PAGES.map((page) => {
        const badge = page.badge?.(state) ?? 0;
        return html`<li key=${page.id}>
          <a href=${address(page.id)} aria-current=${page.id === current ? "page" : undefined} onClick=${close}>
            <${Icon} name=${page.icon} /><span>${page.title}</span>${badge > 0 && html`<span class="badge">${badge > 99 ? "99+" : badge}<span class="hidden"> open</span></span>`}
          </a>
        </li>`;
      })}
    </ul>
    <div class="foot">
      <${Connection} />
      <div class="row">
        <${Theme} />
        <button type="button" class="button plain" onClick=${() => keyboard.help()} title="Keyboard shortcuts (?)" aria-label="Keyboard shortcuts"><${Icon} name="keyboard" /></button>
        <button type="button" class="button plain" onClick=${signOut} title="Sign out" aria-label="Sign out"><${Icon} name="leave" /></button>
      </div>
    </div>
  </nav>`;
}

function SignedOut() {
  return html`<main class="signed-out" id="content">
    <div class="card">
      <${Logo} size="40" />
      <h1>This browser is not signed in</h1>
      <p>Run this command on the machine of the gateway. It opens the dashboard here, without a password.</p>
      <${Copyable} text="rad mcp proxy ui" />
      <p class="hint">A sign-in ends with the browser or the gateway. Signed in already? <button type="button" class="link" onClick=${() => store.resume()}>Try again</button></p>
    </div>
  </main>`;
}

const Logo = ({ size = 24 }) => html`<img src="icon.svg" width=${size} height=${size} alt="" />`;

function Offline() {
  const { connection, status } = useStore();
  if (connection !== "offline") return null;
  return html`<p class="banner" role="alert"><${Status} kind="bad">The gateway does not answer${status ? "; what you see is its last state" : ""}.<//> This page goes on trying.</p>`;
}

function Shell() {
  const signedOut = useStore((it) => it.connection === "signed out");
  const route = useRoute();
  const [open, setOpen] = useState(false);
  useEffect(() => keyboard.start(PAGES), []);
  useEffect(() => setOpen(false), [route.page]);
  if (signedOut) return html`<${SignedOut} />`;
  const page = PAGES.find((one) => one.id === route.page);
  return html`
    <a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    <div class="shell">
      <aside>
        <div class="brand">
          <${Logo} /><span>Radium <small>MCP gateway</small></span>
          <button type="button" class="button plain menu" aria-expanded=${open} aria-controls="navigation" aria-label="Menu" onClick=${() => setOpen(!open)}><${Icon} name=${open ? "close" : "menu"} /></button>
        </div>
        <${Navigation} current=${page?.id} open=${open} close=${() => setOpen(false)} />
      </aside>
      <main id="content" tabindex="-1">
        <${Offline} />
        ${page ? html`<${Page} page=${page} route=${route} />` : html`<${Unknown} />`}
      </main>
    </div>
    <${Questions} />
    <${Messages} />
    <${KeyHelp} pages=${PAGES} />
  `;
}

const Unknown = () => html`<h1 tabindex="-1" id="title">No such page</h1><p>The navigation lists all pages. <a href=${address("overview")}>Overview</a></p>`;

function skip(event) {
  event.preventDefault(); // the address names the page
  document.querySelector("#content").focus();
}

takePageKey();
store.start();
render(html`<${Shell} />`, document.querySelector("#app"));
