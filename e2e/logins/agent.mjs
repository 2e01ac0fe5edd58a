// The official TypeScript SDK, whose user is asked to log in: `node agent.mjs URL AUTHORIZATION legacy|modern TOOL...`
// prints each address, and the results of the calls. Legacy is version 1 of the SDK, modern version 2. Other questions
// are answered with the next line of stdin, as the only field.
import { createInterface } from "node:readline";
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, Authorization, era, ...names] = process.argv.slice(2);
const modern = era === "modern";
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const me = { name: `typescript-${era}`, version: "1.0.0" };
const capabilities = { elicitation: { form: {}, url: {} } };

async function elicited({ params }) {
  if (params.mode === "url") {
    console.log("open", params.url);
    return { action: "accept" };
  }
  const [field] = Object.keys(params.requestedSchema.properties);
  console.log("asked", field);
  return { action: "accept", content: { [field]: (await lines.next()).value } };
}

const client = modern
  ? new Client(me, { capabilities, versionNegotiation: { mode: { pin: "2026-07-28" } } })
  : new LegacyClient(me, { capabilities });
client.setRequestHandler(modern ? "elicitation/create" : ElicitRequestSchema, elicited);
const Transport = modern ? StreamableHTTPClientTransport : LegacyTransport;
await client.connect(new Transport(new URL(url), { requestInit: { headers: { Authorization } } }));
for (const name of names) {
  const result = await client.callTool({ name, arguments: {} });
  console.log("result", result.content[0].text);
}
const { tools } = await client.listTools();
console.log("tools", tools.map((tool) => tool.name).sort().join(" "));
await client.close();
process.exit(0);
