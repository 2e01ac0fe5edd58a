// A server on the official TypeScript SDK, version 2, with one of everything. It asks its client by answering
// `input_required`. Run as `node typescript2.mjs` over stdio, or `node typescript2.mjs PORT` over Streamable HTTP.
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { McpServer, ResourceTemplate, completable, createMcpHandler, inputRequired } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";

const NOTE = "notes://today";
const PEOPLE = ["Ada", "Alan", "Grace"];
const grown = [];
const said = (text) => ({ content: [{ type: "text", text }] });

// Over HTTP each request has a server of its own, so that what lasts is outside: `grown`, and `notifier` for changes.
// Over stdio there is one for the connection, which tells its changes itself.
function build(notifier) {
  const server = new McpServer(
    { name: "typescript2", version: "1.0.0" },
    { capabilities: { logging: {}, resources: { subscribe: true }, tools: { listChanged: true } } },
  );
  const register = (name) => server.registerTool(name, {}, () => said(name));
  const numbers = z.object({ a: z.number(), b: z.number() });
  server.registerTool("add", { inputSchema: numbers }, ({ a, b }) => said(String(a + b)));
  server.registerTool("count", { inputSchema: z.object({ steps: z.number() }) }, async ({ steps }, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (let progress = 1; progress <= steps; progress++) {
      if (progressToken !== undefined) {
        const params = { progressToken, progress, total: steps };
        await mcpReq.notify({ method: "notifications/progress", params });
      }
      await pause(100);
    }
    return said(`counted to ${steps}`);
  });
  server.registerTool("tell", {}, async ({ mcpReq }) => {
    await mcpReq.log("info", "a word to the log");
    return said("told");
  });
  server.registerTool("ask", {}, ({ mcpReq }) => {
    const answer = mcpReq.inputResponses?.question;
    if (answer !== undefined) return said(`you are ${answer.content?.value}`);
    const requestedSchema = { type: "object", properties: { value: { type: "string" } }, required: ["value"] };
    const question = inputRequired.elicit({ message: "Who are you?", requestedSchema });
    return inputRequired({ inputRequests: { question } });
  });
  server.registerTool("sample", {}, ({ mcpReq }) => {
    const answer = mcpReq.inputResponses?.question;
    if (answer !== undefined) return said(`the model says ${answer.content.text}`);
    const messages = [{ role: "user", content: { type: "text", text: "Name a colour" } }];
    const question = inputRequired.createMessage({ messages, maxTokens: 20 });
    return inputRequired({ inputRequests: { question } });
  });
  server.registerTool("grow", {}, () => {
    const name = `grown_${grown.length}`;
    grown.push(name);
    if (notifier) notifier.toolsChanged();
    else register(name);
    return said(name);
  });
  server.registerTool("touch", {}, async () => {
    if (notifier) notifier.resourceUpdated(NOTE);
    else await server.server.sendResourceUpdated({ uri: NOTE });
    return said("touched");
  });
  grown.forEach(register);
  server.registerResource("today", NOTE, {}, () => ({ contents: [{ uri: NOTE, text: "Water the plants." }] }));
  const template = new ResourceTemplate("notes://of/{name}", { list: undefined });
  server.registerResource("note", template, {}, (uri, { name }) => ({
    contents: [{ uri: uri.href, text: `A note of ${name}.` }],
  }));
  const name = completable(z.string(), (value) => PEOPLE.filter((each) => each.startsWith(value)));
  server.registerPrompt("greet", { argsSchema: z.object({ name }) }, (args) => ({
    messages: [{ role: "user", content: { type: "text", text: `Say hello to ${args.name}.` } }],
  }));
  return server;
}

function serveHttp(port) {
  const handler = createMcpHandler(() => build(handler.notify));
  createServer(async (request, response) => {
    const stopped = new AbortController();
    response.on("close", () => stopped.abort());
    const { method, headers } = request;
    const body = method === "POST" ? Readable.toWeb(request) : undefined;
    const asked = new Request(`http://${headers.host}${request.url}`, {
      method,
      headers,
      body,
      duplex: "half",
      signal: stopped.signal,
    });
    const answer = await handler.fetch(asked);
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    if (answer.body) Readable.fromWeb(answer.body).on("error", () => response.destroy()).pipe(response);
    else response.end();
  }).listen(port, "127.0.0.1");
}

if (process.argv[2]) serveHttp(Number(process.argv[2]));
else serveStdio(() => build());
