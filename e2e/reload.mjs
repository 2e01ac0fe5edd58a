// An agent on the official TypeScript SDK that calls without a pause until its stdin ends: `node reload.mjs URL
// legacy|modern`. It prints the number of calls, and every failure, as one JSON object.
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, era] = process.argv.slice(2);
const me = { name: `reload-${era}`, version: "1.0.0" };
const client =
  era === "modern"
    ? new Client(me, { versionNegotiation: { mode: { pin: "2026-07-28" } } })
    : new LegacyClient(me);
const transport = era === "modern" ? new StreamableHTTPClientTransport(new URL(url)) : new LegacyTransport(new URL(url));
let over = false;
process.stdin.on("end", () => (over = true)).resume();
await client.connect(transport);

let calls = 0;
const failures = [];
async function callOn() {
  while (!over) {
    try {
      const result = await client.callTool({ name: "get-sum", arguments: { a: 2, b: 3 } });
      if (result.content[0].text !== "The sum of 2 and 3 is 5.") failures.push(JSON.stringify(result));
    } catch (error) {
      failures.push(String(error.message || error));
    }
    calls++;
  }
}

await Promise.all([callOn(), callOn(), callOn(), callOn()]);
console.log(JSON.stringify({ calls, failures }));
await client.close();
