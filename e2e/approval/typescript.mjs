// A client of the official TypeScript SDK whose user is asked: `node approval/typescript.mjs URL legacy|modern ACTION CALLS`.
// Legacy is version 1 of the SDK, modern version 2. ACTION is what the user does with each question: accept, decline, or
// late. `by-hand` (modern) sends a call again with other arguments, then as it was, twice. CALLS is JSON.
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import {
  Client,
  StreamableHTTPClientTransport,
  isInputRequiredResult,
  specTypeSchemas,
  withInputRequired,
} from "@modelcontextprotocol/client";

const [url, era, action, calls] = process.argv.slice(2);
const modern = era === "modern";
const me = { name: `approval-typescript-${era}`, version: "1.0.0" };
const capabilities = { elicitation: {} };
const client = modern
  ? new Client(me, { capabilities, versionNegotiation: { mode: { pin: "2026-07-28" } } })
  : new LegacyClient(me, { capabilities });
const asked = [];

async function answer({ params }) {
  asked.push(params.message);
  if (action === "late") await new Promise((resolve) => setTimeout(resolve, 2500));
  return action === "decline" ? { action: "decline" } : { action: "accept", content: {} };
}

client.setRequestHandler(modern ? "elicitation/create" : ElicitRequestSchema, answer);
const Transport = modern ? StreamableHTTPClientTransport : LegacyTransport;
await client.connect(new Transport(new URL(url)));

const options = { timeout: 30_000 };
const textOf = (result) => result.content[0].text;
const errorOf = (error) => `${error.code} ${error.message}`;
const call = ([name, args]) =>
  (modern
    ? client.callTool({ name, arguments: args }, options)
    : client.callTool({ name, arguments: args }, undefined, options)
  ).then(textOf, errorOf);
const round = (params) =>
  client.request({ method: "tools/call", params }, withInputRequired(specTypeSchemas.CallToolResult), {
    ...options,
    allowInputRequired: true,
  });

async function byHand([name, args]) {
  const first = await round({ name, arguments: args });
  if (!isInputRequiredResult(first)) throw new Error("nobody was asked");
  const inputResponses = Object.fromEntries(
    Object.keys(first.inputRequests).map((key) => [key, { action: "accept", content: {} }]),
  );
  const again = (given) =>
    round({ name, arguments: given, inputResponses, requestState: first.requestState }).then(textOf, errorOf);
  return [await again({ ...args, b: args.b + 1 }), await again(args), await again(args)];
}

const ends = [];
for (const each of JSON.parse(calls)) ends.push(...(action === "by-hand" ? await byHand(each) : [await call(each)]));
console.log(JSON.stringify({ asked, ends }));
await client.close();
