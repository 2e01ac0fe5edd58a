// An agent on the official TypeScript SDK: `node client.mjs URL legacy|modern` uses everything that the server
// `everything` offers and prints what it got as one JSON object. Legacy is version 1 of the SDK, modern version 2.
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, era] = process.argv.slice(2);
const me = { name: `typescript-${era}`, version: "1.0.0" };
const client =
  era === "modern"
    ? new Client(me, { versionNegotiation: { mode: { pin: "2026-07-28" } } })
    : new LegacyClient(me);
const transport = era === "modern" ? new StreamableHTTPClientTransport(new URL(url)) : new LegacyTransport(new URL(url));
await client.connect(transport);

async function all(list, member) {
  const found = [];
  let cursor;
  do {
    const page = await client[list](cursor === undefined ? undefined : { cursor });
    found.push(...page[member]);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return found;
}

function call(name, args, onprogress) {
  const options = { timeout: 20_000, onprogress };
  const params = { name, arguments: args };
  return era === "modern" ? client.callTool(params, options) : client.callTool(params, undefined, options);
}

const progress = [];
const ref = { type: "ref/prompt", name: "completable-prompt" };
const result = {
  server: client.getServerVersion(),
  tools: (await all("listTools", "tools")).map((tool) => tool.name),
  sum: await call("get-sum", { a: 2, b: 3 }),
  structured: await call("get-structured-content", { location: "Chicago" }),
  refused: await call("get-sum", { a: "two" }).catch((error) => ({ code: error.code, message: error.message })),
  long: await call("trigger-long-running-operation", { duration: 0.4, steps: 4 }, (step) => progress.push(step)),
  progress,
  resource: await client.readResource({ uri: "demo://resource/dynamic/text/7" }),
  resources: (await all("listResources", "resources")).map((resource) => resource.uri),
  templates: (await all("listResourceTemplates", "resourceTemplates")).map((template) => template.uriTemplate),
  prompts: (await all("listPrompts", "prompts")).map((prompt) => prompt.name),
  prompt: await client.getPrompt({ name: "args-prompt", arguments: { city: "Oslo" } }),
  completion: await client.complete({ ref, argument: { name: "department", value: "S" } }),
};
console.log(JSON.stringify(result));
await client.close();
