// Reads a stream of server-sent events with fetch, so that a refusal can be told from a lost connection.
import { pageKey } from "./page_key.js";

const MAX_LINE = 8 * 1024 * 1024;

/** One event of the stream. */
export class StreamEvent {
  constructor(id, type, data) {
    this.id = id;
    this.type = type;
    this.data = data;
  }
}

/** The stream was refused: HTTP `status`. */
export class Refused extends Error {
  constructor(status) {
    super(`HTTP ${status}`);
    this.status = status;
  }
}

/**
 * The events at `url`, after the event `lastId`. Ends when the server ends it; throws `Refused`, or what fetch throws.
 * `opened` is called once the server has accepted the request; `heard` for each part that arrives.
 */
export async function* events(url, { lastId = "", signal, opened = () => {}, heard = () => {} }) {
  const headers = { Accept: "text/event-stream", ...pageKey(), ...(lastId ? { "Last-Event-ID": lastId } : {}) };
  const response = await fetch(url, { headers, signal, cache: "no-store", credentials: "same-origin", redirect: "error" });
  const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
  if (!response.ok || !isStream) {
    await response.body?.cancel();
    throw new Refused(response.ok ? 406 : response.status);
  }
  opened();
  let [rest, id, type, data] = ["", lastId, "message", []];
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      rest += value;
      if (rest.length > MAX_LINE) throw new Error("a line of the stream is too long");
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield new StreamEvent(id, type, data.join("\n"));
          [type, data] = ["message", []];
          continue;
        }
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const content = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "id") id = content;
        else if (field === "event") type = content;
        else if (field === "data") data.push(content);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
