// What all pages share: rights, the state of the connection, the status of the gateway, recent calls.
//
// A change reaches the pages at most ten times a second, however many events arrive.
import { useEffect, useReducer, useRef } from "../vendor/preact-hooks.js";
import * as api from "./api.js";
import { Figures } from "./figures.js";
import { events, Refused } from "./stream.js";

const FRAME = 100; // ms between two renders
const POLL = 2_000; // ms between two looks at the status while there is no stream
const LIVE_POLL = 4_000; // … while there is one
const RETRY = [500, 1_000, 2_000, 5_000, 10_000]; // ms before the stream is opened again
const ABSENT_RETRY = 30_000; // … if the gateway has no stream, or refuses it
const SILENCE = 60_000; // ms without a byte after which a stream counts as lost
const HIDDEN = 30_000; // ms after which a page that is not visible stops looking
const MAX_CALLS = 2_000; // ended calls that are kept

class Store {
  /** "connecting", "live" (event stream), "polling" (no event stream), "offline" (no answer), "signed out". */
  connection = "connecting";
  /** {right, version}, once known. */
  me = null;
  /** The last `/admin/status`. */
  status = null;
  statusAt = 0;
  statusError = null;
  /** Ended calls, newest last; see `calls`. */
  recent = [];
  figures = new Figures();
  /** Counts the changes of `recent` and `figures`. */
  version = 0;

  #listeners = new Set();
  #watchers = new Map();
  #timer = 0;
  #lastFrame = 0;
  #lastId = "";
  #failures = 0;
  #abort = null;
  #polling = 0;
  #sleeping = false;
  #sleepSoon = 0;
  /** The pages of this dashboard in other tabs: a browser opens only six connections to one gateway for all of them. */
  #others = new BroadcastChannel("streams");
  #started = false;

  start() {
    if (this.#started) return;
    this.#started = true;
    api.onSignedOut(() => this.#signOut());
    document.addEventListener("visibilitychange", () => this.#visibility());
    this.#others.addEventListener("message", () => document.hidden && this.#sleep());
    if (document.hidden) this.#visibility(); // opened in a tab in the background
    this.resume();
  }

  /** Begin again after the browser was signed out, or the gateway was away. */
  resume() {
    this.connection = "connecting";
    this.changed();
    this.#whoami();
    this.#poll();
    this.#listen();
  }

  /** End the session of this browser. Throws `ApiError`. */
  async signOut() {
    await api.post("/admin/browser-logout");
    this.#signOut();
  }

  get canChange() {
    return this.me?.right === "change";
  }

  /** Ended calls that are known, newest last. */
  get calls() {
    return this.recent;
  }

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Call `listener(events)` for the events of some types. Returns the function that ends it. */
  watch(types, listener) {
    const key = { types: new Set(types), listener };
    this.#watchers.set(key, key);
    return () => this.#watchers.delete(key);
  }

  /** Render soon. */
  changed() {
    if (this.#timer) return;
    const wait = Math.max(0, this.#lastFrame + FRAME - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#lastFrame = performance.now();
      for (const listener of [...this.#listeners]) listener();
    }, wait);
  }

  /** Look at the status now. */
  refresh() {
    clearTimeout(this.#polling);
    return this.#poll();
  }

  async #whoami() {
    try {
      this.me = await api.get("/admin/me");
      this.changed();
    } catch (error) {
      // Without this endpoint nothing may be changed; the rest works.
      if (error.status && error.status !== 401) this.me = { right: "read" };
      else if (!error.status) setTimeout(() => this.me === null && this.#whoami(), POLL);
    }
  }

  async #poll() {
    clearTimeout(this.#polling);
    if (this.connection === "signed out" || this.#sleeping) return;
    try {
      const found = await api.get("/admin/status");
      this.status = found;
      this.statusAt = Date.now() / 1000;
      this.statusError = null;
      this.figures.counted(found, this.statusAt);
      this.connection = this.figures.live ? "live" : "polling";
      this.version += 1;
    } catch (error) {
      this.statusError = error;
      if (error.status === 0) this.connection = "offline";
    }
    this.changed();
    clearTimeout(this.#polling);
    if (this.connection !== "signed out") {
      this.#polling = setTimeout(() => this.#poll(), this.connection === "live" ? LIVE_POLL : POLL);
    }
  }

  async #listen() {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    while (!abort.signal.aborted && this.connection !== "signed out") {
      let wait = RETRY[Math.min(this.#failures, RETRY.length - 1)];
      const connection = new AbortController();
      const end = () => connection.abort();
      abort.signal.addEventListener("abort", end);
      let silence = 0;
      try {
        const heard = () => {
          clearTimeout(silence);
          silence = setTimeout(end, SILENCE);
        };
        const opened = () => {
          this.#failures = 0;
          this.connection = "live";
          this.figures.live = true;
          this.#others.postMessage("opened");
          heard();
          this.changed();
        };
        for await (const event of events("/admin/events", { lastId: this.#lastId, signal: connection.signal, opened, heard })) {
          this.#lastId = event.id;
          if (event.type === "changes") this.#take(JSON.parse(event.data));
        }
      } catch (error) {
        if (error instanceof Refused) {
          if (error.status === 401) return this.#signOut();
          wait = error.status === 404 || error.status === 406 ? ABSENT_RETRY : Math.max(wait, 2_000);
          if (error.status === 400 || error.status === 422) this.#lastId = ""; // of another gateway
        }
      } finally {
        clearTimeout(silence);
        abort.signal.removeEventListener("abort", end);
      }
      this.figures.live = false;
      if (abort.signal.aborted) return;
      this.#failures += 1;
      if (this.connection === "live") {
        this.connection = "connecting";
        this.refresh();
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  #take({ events: found = [], missed = 0 }) {
    const ended = [];
    for (const event of found) {
      const call = endedCall(event);
      if (call) ended.push(call);
    }
    this.figures.ended(ended, missed);
    this.recent.push(...ended);
    if (this.recent.length > MAX_CALLS) this.recent = this.recent.slice(-MAX_CALLS);
    for (const { types, listener } of [...this.#watchers.values()]) {
      const wanted = found.filter((event) => types.has(event.type));
      if (wanted.length || missed) listener(wanted, missed);
    }
    if (found.some((event) => event.type !== "call" && event.type !== "log")) this.#soon();
    this.version += 1;
    this.changed();
  }

  #soonTimer = 0;
  /** Look at the status soon, once for many events. */
  #soon() {
    this.#soonTimer ||= setTimeout(() => {
      this.#soonTimer = 0;
      this.refresh();
    }, 250);
  }

  #signOut() {
    this.connection = "signed out";
    this.#abort?.abort();
    clearTimeout(this.#polling);
    this.changed();
  }

  /** End the stream and ask nothing until the page is visible again. */
  #sleep() {
    this.#sleeping = true;
    this.#abort?.abort();
  }

  #visibility() {
    clearTimeout(this.#sleepSoon);
    if (document.hidden) {
      this.#sleepSoon = setTimeout(() => this.#sleep(), HIDDEN);
      return;
    }
    const slept = this.#sleeping;
    this.#sleeping = false;
    if (slept || this.connection === "signed out") this.resume();
  }
}

/** The call of an event, if it says that a call ended; else null. */
function endedCall(event) {
  if (event.type !== "call") return null;
  const call = event.call ?? event;
  return call.outcome ? call : null;
}

/** The one store of the page. */
export const store = new Store();

/**
 * Render this component again when the store has changed. Returns the store; with `select`, the value that it returns,
 * and the component is rendered when that differs.
 */
export function useStore(select = null) {
  const [, render] = useReducer((turn) => turn + 1, 0);
  const seen = useRef();
  useEffect(() => store.subscribe(() => (!select || !Object.is(select(store), seen.current)) && render()), []);
  seen.current = select ? select(store) : store;
  return seen.current;
}

const cache = new Map(); // path -> last answer, so that a page shows something at once when it is opened again
const MAX_CACHED = 60;

/**
 * The answer of `path`: {data, error, loading, reload}. Fetched when the component appears, every `every` ms while the
 * page is visible, and when events of the types in `on` arrive. An empty path fetches nothing.
 */
export function useResource(path, { every = 0, on = [] } = {}) {
  const [, render] = useReducer((turn) => turn + 1, 0);
  const types = on.join();
  const state = useResourceState(path);
  useEffect(() => {
    if (!path) return undefined;
    const abort = new AbortController();
    let [timer, running, again] = [0, false, false];
    async function load() {
      clearTimeout(timer);
      if (running) return void (again = true);
      running = true;
      try {
        const data = await api.get(path, { signal: abort.signal });
        cache.delete(path);
        cache.set(path, data);
        if (cache.size > MAX_CACHED) cache.delete(cache.keys().next().value);
        Object.assign(state, { data, error: null });
      } catch (error) {
        if (abort.signal.aborted) return;
        state.error = error;
      }
      running = false;
      state.loading = false;
      render();
      if (again) [again, timer] = [false, setTimeout(load, 300)];
      else if (every) timer = setTimeout(tick, every);
    }
    const tick = () => (document.hidden || store.connection === "signed out" ? (timer = setTimeout(tick, every)) : load());
    state.reload = load;
    load();
    let soon = 0;
    const unwatch = types
      ? store.watch(types.split(","), () => {
          soon ||= setTimeout(() => {
            soon = 0;
            load();
          }, 300);
        })
      : () => {};
    return () => {
      abort.abort();
      clearTimeout(timer);
      clearTimeout(soon);
      unwatch();
    };
  }, [path, every, types]);
  return state;
}

function useResourceState(path) {
  const [holder] = useReducer((it) => it, { path: null, state: null });
  if (holder.path !== path) {
    holder.path = path;
    const known = cache.get(path);
    holder.state = { data: known ?? null, error: null, loading: Boolean(path) && known === undefined, reload: () => {} };
  }
  return holder.state;
}
