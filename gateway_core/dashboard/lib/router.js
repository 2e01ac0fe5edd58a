// Addresses behind the `#`: `#/servers/NAME?filter=x` is the page `servers`, with one part and one option.
import { useEffect, useState } from "./ui.js";

/** The address of now: {page, parts, options}. */
export function route() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [page, ...parts] = path.split("/").map(decoded);
  return { page: page || "overview", parts: parts.filter(Boolean), options: Object.fromEntries(new URLSearchParams(search)) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a page. */
export function address(page, parts = [], options = {}) {
  const given = Object.entries(options).filter(([, value]) => value != null && value !== "");
  const search = new URLSearchParams(given).toString();
  return `#/${[page, ...parts].map(encodeURIComponent).join("/")}${search && `?${search}`}`;
}

/** Show another page. `replace`: without an entry in the history. */
export function go(page, parts = [], options = {}, { replace = false } = {}) {
  const to = address(page, parts, options);
  if (!replace) location.hash = to;
  else {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
}

/** The address of now; the component is rendered again when it changes. */
export function useRoute() {
  const [now, set] = useState(route);
  useEffect(() => {
    const changed = () => set(route());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return now;
}
