// Figures over the last minutes: of ended calls where the event stream brings them, of the counters of the status else.

const STEP = 2; // seconds of one bucket
const BUCKETS = 150; // five minutes
const CELLS = 96; // of a histogram of latencies: from 0.1 ms, each a fifth larger
const BASE = Math.log(1.2);
const SMOOTH = 5; // buckets that one value of a plot of latencies covers

export const OUTCOMES = {
  ok: { label: "ok", kind: "ok" },
  asked: { label: "asked", kind: "info" },
  tool_error: { label: "tool error", kind: "warn" },
  refused: { label: "refused", kind: "warn" },
  cancelled: { label: "cancelled", kind: "idle" },
  error: { label: "error", kind: "bad" },
  unavailable: { label: "unavailable", kind: "bad" },
  unknown: { label: "outcome unknown", kind: "bad" },
};
/** Whether a call with this outcome failed for a reason other than its own request. */
export const isFailure = (outcome) => outcome === "error" || outcome === "unavailable" || outcome === "unknown";

const cellOf = (seconds) => Math.max(0, Math.min(CELLS - 1, Math.round(Math.log(Math.max(seconds * 10_000, 1)) / BASE)));
const millisecondsOf = (cell) => Math.exp(cell * BASE) / 10;

class Bucket {
  constructor(at, live) {
    this.at = at; // the first second of it, by the clock of this browser
    this.live = live; // whether the stream of events covers it
    this.calls = 0;
    this.failed = 0;
    this.toolErrors = 0;
    this.refused = 0;
    this.counted = null; // calls, by the counters of the status
    this.countedErrors = null;
    this.cells = null; // histogram of latencies
    this.latency = null; // ms, by the status
  }
}

/** The value below which a part of a histogram lies, in ms; null for an empty one. */
function quantile(cells, part) {
  const total = cells.reduce((sum, value) => sum + value, 0);
  if (!total) return null;
  let seen = 0;
  for (let cell = 0; cell < CELLS; cell += 1) {
    seen += cells[cell];
    if (seen >= total * part) return millisecondsOf(cell);
  }
  return null;
}

export class Figures {
  #buckets = [];
  #last = null; // the status before
  /** Whether the stream of events is open, so that silence means no calls. */
  live = false;
  /** Upstream -> its last states: [{at, latency, calls, errors, inFlight}] with rates per second. */
  upstreams = new Map();

  #bucket(seconds = Date.now() / 1000) {
    const at = Math.floor(seconds / STEP) * STEP;
    let last = this.#buckets.at(-1);
    if (last && at - last.at > BUCKETS * STEP) this.#buckets = [];
    last = this.#buckets.at(-1);
    for (let next = last ? last.at + STEP : at; next <= at; next += STEP) this.#buckets.push(new Bucket(next, this.live));
    if (this.#buckets.length > BUCKETS) this.#buckets.splice(0, this.#buckets.length - BUCKETS);
    return this.#buckets[this.#buckets.length - 1 - Math.round((this.#buckets.at(-1).at - at) / STEP)] ?? this.#buckets.at(-1);
  }

  /** Calls have ended, by the event stream. `missed`: events that it lost because this browser was slow. */
  ended(calls, missed) {
    const bucket = this.#bucket();
    bucket.calls += calls.length + missed;
    for (const { outcome, seconds, waited } of calls) {
      if (isFailure(outcome)) bucket.failed += 1;
      else if (outcome === "tool_error") bucket.toolErrors += 1;
      else if (outcome === "refused") bucket.refused += 1;
      bucket.cells ??= new Uint32Array(CELLS);
      bucket.cells[cellOf(Math.max(0, seconds - (waited ?? 0)))] += 1;
    }
  }

  /** The counters of a status. */
  counted(status, at) {
    const upstreams = status.upstreams ?? [];
    const errors = upstreams.reduce((sum, one) => sum + (one.errors ?? 0), 0);
    const known = upstreams.filter((one) => one.latency_ms != null);
    const now = { at, started: status.started, calls: status.calls ?? 0, errors };
    const before = this.#last;
    this.#last = now;
    if (before && before.started === now.started && now.calls >= before.calls && at > before.at) {
      const span = at - before.at;
      const from = Math.max(before.at, at - BUCKETS * STEP);
      this.#bucket(at);
      for (let seconds = from + STEP; seconds < at + STEP; seconds += STEP) {
        const bucket = this.#bucket(Math.min(seconds, at));
        const part = Math.min(STEP, span) / span;
        bucket.counted = (now.calls - before.calls) * part;
        bucket.countedErrors = Math.max(0, now.errors - before.errors) * part;
      }
    }
    const bucket = this.#bucket(at);
    const weight = known.reduce((sum, one) => sum + Math.max(1, one.calls), 0);
    bucket.latency = weight ? known.reduce((sum, one) => sum + one.latency_ms * Math.max(1, one.calls), 0) / weight : null;
    this.#ofUpstreams(upstreams, at);
  }

  #ofUpstreams(upstreams, at) {
    const names = new Set();
    for (const one of upstreams) {
      names.add(one.name);
      const points = this.upstreams.get(one.name) ?? [];
      const last = points.at(-1);
      const span = last ? at - last.at : 0;
      const rate = (now, before) => (span > 0 && now >= before ? (now - before) / span : 0);
      points.push({
        at,
        latency: one.latency_ms,
        calls: one.calls,
        errors: one.errors,
        callRate: last ? rate(one.calls, last.calls) : null,
        errorRate: last ? rate(one.errors, last.errors) : null,
        inFlight: one.in_flight,
      });
      if (points.length > BUCKETS) points.shift();
      this.upstreams.set(one.name, points);
    }
    for (const name of this.upstreams.keys()) if (!names.has(name)) this.upstreams.delete(name);
  }

  /** Series for plots, each value per second or in ms. The current bucket is left out, because it is not full. */
  series() {
    this.#bucket();
    const buckets = this.#buckets.slice(0, -1);
    const began = buckets.findIndex((one) => one.live || one.counted !== null);
    const of = (value) => buckets.map((one, at) => (began < 0 || at < began ? null : value(one)));
    const latency = (part) =>
      buckets.map((one, at) => {
        const cells = new Uint32Array(CELLS);
        for (const { cells: found } of buckets.slice(Math.max(0, at - SMOOTH + 1), at + 1)) found?.forEach((value, cell) => (cells[cell] += value));
        return quantile(cells, part);
      });
    const [median, p95] = [latency(0.5), latency(0.95)];
    const rate = (live, counted) => of((one) => (one.live ? live(one) : (counted(one) ?? 0)) / STEP);
    return {
      at: buckets.map((one) => one.at),
      calls: rate((one) => one.calls, (one) => one.counted),
      failed: rate((one) => one.failed, (one) => one.countedErrors),
      toolErrors: rate((one) => one.toolErrors, () => 0),
      refused: rate((one) => one.refused, () => 0),
      median: buckets.map((one, at) => median[at] ?? (one.live ? null : one.latency)),
      p95,
      span: [(buckets.at(-1)?.at ?? Date.now() / 1000) - (BUCKETS - 2) * STEP, buckets.at(-1)?.at ?? Date.now() / 1000],
    };
  }

  /** Sums over the last `seconds`: {calls, failed, refused, rate, p95}. */
  last(seconds) {
    const since = Date.now() / 1000 - seconds;
    const buckets = this.#buckets.filter((one) => one.at >= since);
    const sum = (value) => buckets.reduce((total, one) => total + value(one), 0);
    const cells = new Uint32Array(CELLS);
    for (const one of buckets) one.cells?.forEach((value, cell) => (cells[cell] += value));
    const calls = sum((one) => (one.live ? one.calls : (one.counted ?? 0)));
    const span = Math.max(STEP, Math.min(seconds, Date.now() / 1000 - (buckets[0]?.at ?? 0)));
    return {
      calls: Math.round(calls),
      failed: Math.round(sum((one) => (one.live ? one.failed : (one.countedErrors ?? 0)))),
      refused: sum((one) => one.refused),
      toolErrors: sum((one) => one.toolErrors),
      rate: calls / span,
      median: quantile(cells, 0.5),
      p95: quantile(cells, 0.95),
    };
  }
}
