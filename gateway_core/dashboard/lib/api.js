// Requests to the control plane. The browser sends the cookie, this page its key; it never sees a token.
import { pageKey } from "./page_key.js";

const TIME_LIMIT = 130_000; // a reload may take two minutes

/** A request that failed. `status` is 0 where no response came; `body` is the JSON of the response. */
export class ApiError extends Error {
  constructor(status, text, body = {}) {
    super(text);
    this.status = status;
    this.body = body;
  }

  /** Problems with lines of the configuration, if the response lists some. */
  get problems() {
    return Array.isArray(this.body.problems) ? this.body.problems : [];
  }
}

const signedOut = new Set();

/** Call `listener` when the control plane says that this browser is not signed in. */
export const onSignedOut = (listener) => void signedOut.add(listener);

async function request(method, path, body, { signal, limit = TIME_LIMIT } = {}) {
  const signals = [AbortSignal.timeout(limit), ...(signal ? [signal] : [])];
  let response, text;
  try {
    response = await fetch(path, {
      method,
      headers: { Accept: "application/json", ...pageKey(), ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.any(signals),
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, error.name === "TimeoutError" ? "the gateway did not answer in time" : "the gateway does not answer");
  }
  let found = {};
  try {
    found = text ? JSON.parse(text) : {};
  } catch {
    throw new ApiError(response.status, `${path} did not answer with JSON (HTTP ${response.status})`);
  }
  if (response.ok) return found;
  if (response.status === 401) for (const listener of signedOut) listener();
  throw new ApiError(response.status, found.error ?? `HTTP ${response.status}`, found);
}

export const get = (path, options) => request("GET", path, undefined, { limit: 20_000, ...options });
export const post = (path, body, options) => request("POST", path, body, options);
export const put = (path, body, options) => request("PUT", path, body, options);
export const patch = (path, body, options) => request("PATCH", path, body, options);

/** A path with names in it: path`/admin/upstreams/${name}/reconnect`. */
export const path = (parts, ...names) => parts.reduce((made, part, at) => made + encodeURIComponent(names[at - 1]) + part);

/** A query string of the members that have a value. */
export function query(members) {
  const made = new URLSearchParams();
  for (const [key, value] of Object.entries(members)) if (value != null && value !== "") made.set(key, value);
  const text = made.toString();
  return text && `?${text}`;
}
