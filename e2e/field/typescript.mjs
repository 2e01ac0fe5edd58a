// The official TypeScript SDKs, version 1 or 2 by the first argument, with many odd servers; `jobs.py` tells the form.
import { readFileSync } from "node:fs";

const version = process.argv[2];
const { jobs, limit, at_once: atOnce } = JSON.parse(readFileSync(0, "utf8"));
const MAX_PAGES = 5;

async function parts() {
  if (version === "1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    return { StdioClientTransport, StreamableHTTPClientTransport, make: () => new Client({ name: "field", version: "1" }) };
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const options = { versionNegotiation: { mode: "auto" } };
  const make = () => new Client({ name: "field", version: "1" }, options);
  return { StdioClientTransport, StreamableHTTPClientTransport, make };
}

const { StdioClientTransport, StreamableHTTPClientTransport, make } = await parts();

function within(promise, seconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("nothing came in time")), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const reason = (error) => String(error.message || error).replace(/\s+/g, " ").slice(0, 300);

async function all(fetch, key) {
  const found = [];
  let cursor;
  for (let page = 0; page < MAX_PAGES; page++) {
    const result = await fetch(cursor === undefined ? {} : { cursor });
    found.push(...result[key]);
    cursor = result.nextCursor;
    if (!cursor) return found;
  }
  throw new Error("the list does not end");
}

async function call(client, name, args) {
  const result = await client.callTool({ name, arguments: args });
  const text = result.content.map((part) => part.text ?? "").join("");
  if (result.isError) throw new Error(`tool error: ${text}`);
  return text || (result.structuredContent?.text ?? "");
}

const steps = {
  tools: (client, step) => names((params) => client.listTools(params), "tools", "name", step),
  prompts: (client, step) => names((params) => client.listPrompts(params), "prompts", "name", step),
  resources: (client, step) => names((params) => client.listResources(params), "resources", "uri", step),
  templates: (client, step) =>
    names((params) => client.listResourceTemplates(params), "resourceTemplates", "uriTemplate", step),
  call: (client, step) => call(client, step.name, step.arguments),
  "call all": async (client, step) => {
    const tools = await all((params) => client.listTools(params), "tools");
    const texts = [];
    for (const tool of tools) {
      if (tool.description === step.described) texts.push(await call(client, tool.name, {}));
    }
    return texts.sort();
  },
  read: async (client, { uri }) => (await client.readResource({ uri })).contents.map((part) => part.text).join(""),
  prompt: async (client, { name, arguments: args }) =>
    (await client.getPrompt({ name, arguments: args })).messages.map((message) => message.content.text).join(""),
  wait: (client, { seconds }) => pause(seconds).then(() => null),
};

async function names(fetch, key, member, step) {
  return (await all(fetch, key)).map((entry) => entry[member]).filter((name) => name.includes(step.with));
}

async function work(job) {
  const client = make();
  const ends = [];
  let error = null;
  const [program, ...args] = job.command ?? [];
  const transport = job.url
    ? new StreamableHTTPClientTransport(new URL(job.url))
    : new StdioClientTransport({ command: program, args, stderr: "ignore" });
  try {
    await within(client.connect(transport), limit * 2);
    for (const step of job.steps) {
      try {
        ends.push({ got: await within(steps[step.do](client, step), limit) });
      } catch (failure) {
        ends.push({ error: reason(failure) });
      }
    }
  } catch (failure) {
    error = reason(failure);
  }
  process.stdout.write(`${JSON.stringify({ server: job.server, error, ends })}\n`);
  await within(client.close(), limit).catch(() => {});
}

process.on("unhandledRejection", () => {}); // of a transport whose client has failed already
const queue = [...jobs];
const worker = async () => {
  for (let job = queue.shift(); job; job = queue.shift()) await work(job);
};
await Promise.all(Array.from({ length: atOnce }, worker));
process.exit(0);
