// Agents on the official TypeScript SDK that call without a pause until stdin ends: `node reload.mjs URL legacy|modern
// CLIENTS`. It prints the number of calls and of changed lists that each agent heard of, and every failure, as JSON.
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, era, clients = "1"] = process.argv.slice(2);
const me = { name: `reload-${era}`, version: "1.0.0" };
let over = false;
let calls = 0;
const failures = [];
const changed = [];
process.stdin.on("end", () => (over = true)).resume();

async function callOn(client) {
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

async function agent(number) {
  changed[number] = 0;
  const modern = era === "modern";
  const client = modern ? new Client(me, { versionNegotiation: { mode: { pin: "2026-07-28" } } }) : new LegacyClient(me);
  if (!modern) client.setNotificationHandler(ToolListChangedNotificationSchema, () => void changed[number]++);
  await client.connect(modern ? new StreamableHTTPClientTransport(new URL(url)) : new LegacyTransport(new URL(url)));
  await Promise.all([callOn(client), callOn(client), callOn(client), callOn(client)]);
  await client.close();
}

await Promise.all(Array.from({ length: Number(clients) }, (_, number) => agent(number)));
console.log(JSON.stringify({ calls, changed, failures }));
