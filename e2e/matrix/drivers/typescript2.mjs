// The official TypeScript SDK, version 2, in the era that it is told: `legacy`, which is its default, or `auto`.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { Heard, NOT_HONORED, STEP_LIMIT, answers, era, sdkSteps, take, url } from "./report.mjs";

const heard = { logs: new Heard(), updates: new Heard(), changes: new Heard() };
const client = new Client(
  { name: `matrix-typescript2-${era}`, version: "1" },
  { capabilities: { elicitation: {}, sampling: {} }, versionNegotiation: { mode: era } },
);
client.setRequestHandler("elicitation/create", answers.elicitation);
client.setRequestHandler("sampling/createMessage", answers.sampling);
client.setNotificationHandler("notifications/message", ({ params }) => heard.logs.note(JSON.stringify(params.data)));
client.setNotificationHandler("notifications/resources/updated", ({ params }) => heard.updates.note(params.uri));
client.setNotificationHandler("notifications/tools/list_changed", () => heard.changes.note("tools"));

const modern = () => client.getNegotiatedProtocolVersion() >= "2026-07-28";
const LOG_LEVEL = { "io.modelcontextprotocol/logLevel": "debug" };
const call = (name, args, onprogress) => {
  const params = { name, arguments: args };
  if (modern()) params._meta = LOG_LEVEL;
  return client.callTool(params, { timeout: STEP_LIMIT, onprogress });
};
const { callOften, ...steps } = sdkSteps(client, call, heard);
const legacy = { ...steps };
Object.assign(steps, {
  logging: async (needs) => {
    if (!modern()) return legacy.logging(needs);
    await callOften(needs);
    return heard.logs.first();
  },
  "resources/updated": async (needs) => {
    if (!modern()) return legacy["resources/updated"](needs);
    const { honoredFilter } = await client.listen({ resourceSubscriptions: [needs.uri] });
    if (!honoredFilter.resourceSubscriptions?.length) throw new Error(NOT_HONORED);
    await callOften(needs);
    return heard.updates.first();
  },
  "tools/list_changed": async (needs) => {
    if (modern()) {
      const { honoredFilter } = await client.listen({ toolsListChanged: true });
      if (!honoredFilter.toolsListChanged) throw new Error(NOT_HONORED);
    }
    return legacy["tools/list_changed"](needs);
  },
});
await take(async () => {
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return client.getNegotiatedProtocolVersion();
}, steps);
await client.close();
process.exit(0);
