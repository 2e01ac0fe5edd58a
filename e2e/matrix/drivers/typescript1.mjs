// The official TypeScript SDK, version 1. Over Streamable HTTP, or as `mcp-remote` over stdio to `mcp-remote`, which
// speaks to the gateway in its place.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { fileURLToPath } from "node:url";
import { Heard, STEP_LIMIT, answers, era, sdkSteps, take, url } from "./report.mjs";

const heard = { logs: new Heard(), updates: new Heard(), changes: new Heard() };
const client = new Client(
  { name: `matrix-typescript1-${era}`, version: "1" },
  { capabilities: { elicitation: {}, sampling: {} } },
);
client.setRequestHandler(ElicitRequestSchema, answers.elicitation);
client.setRequestHandler(CreateMessageRequestSchema, answers.sampling);
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => heard.logs.note(JSON.stringify(params.data)));
client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => heard.updates.note(params.uri));
client.setNotificationHandler(ToolListChangedNotificationSchema, () => heard.changes.note("tools"));

function transport() {
  if (era !== "mcp-remote") return new StreamableHTTPClientTransport(new URL(url));
  const proxy = fileURLToPath(new URL("../../node_modules/mcp-remote/dist/proxy.js", import.meta.url));
  // `true` instead of a browser, should it ever want one.
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, BROWSER: "true" };
  const args = [proxy, url, "--allow-http", "--transport", "http-only"];
  return new StdioClientTransport({ command: process.execPath, args, env, stderr: "ignore" });
}

const connection = transport();
let version = "";
// The SDK hands the negotiated revision to its transport and keeps it nowhere else.
const told = connection.setProtocolVersion?.bind(connection);
connection.setProtocolVersion = (negotiated) => {
  version = negotiated;
  told?.(negotiated);
};

const call = (name, args, onprogress) =>
  client.callTool({ name, arguments: args }, undefined, { timeout: STEP_LIMIT, onprogress });
const { callOften, ...steps } = sdkSteps(client, call, heard);
await take(async () => {
  await client.connect(connection);
  return version;
}, steps);
await client.close();
process.exit(0);
