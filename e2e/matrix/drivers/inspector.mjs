// The MCP Inspector's command line: one process for each step. What it has no command for (progress, completion,
// answers to questions, waiting for notifications) it cannot.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { STEP_LIMIT, era, take, text, url } from "./report.mjs";

const program = fileURLToPath(
  new URL("../../node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js", import.meta.url),
);

function inspect(...options) {
  const args = [program, "--cli", url, "--protocol-era", era, "--stored-auth-only", "--quiet", "--format", "json"];
  const child = spawn(process.execPath, [...args, ...options], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: STEP_LIMIT,
  });
  const parts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].on("data", (data) => (parts[name] += data));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(JSON.parse(parts.stdout).result);
      else reject(new Error(parts.stderr.trim() || parts.stdout.trim() || `ended with ${code}`));
    });
  });
}

const pairs = (values) => Object.entries(values).flatMap(([name, value]) => ["--prompt-args", `${name}=${value}`]);

await take(async () => {
  const info = await inspect("--method", "initialize");
  return info.protocolVersion;
}, {
  "tools/list": async () => (await inspect("--method", "tools/list")).tools.map((tool) => tool.name),
  "tools/call": async ({ name, arguments: args }) => {
    const options = ["--method", "tools/call", "--tool-name", name, "--tool-args-json", JSON.stringify(args)];
    const result = await inspect(...options);
    return text(result.content, result.isError);
  },
  "resources/list": async () => (await inspect("--method", "resources/list")).resources.map((each) => each.uri),
  "resources/templates/list": async () =>
    (await inspect("--method", "resources/templates/list")).resourceTemplates.map((each) => each.uriTemplate),
  "resources/read": async ({ uri }) => text((await inspect("--method", "resources/read", "--uri", uri)).contents),
  "prompts/list": async () => (await inspect("--method", "prompts/list")).prompts.map((each) => each.name),
  "prompts/get": async ({ name, arguments: args }) => {
    const result = await inspect("--method", "prompts/get", "--prompt-name", name, ...pairs(args));
    return text(result.messages.map((message) => message.content));
  },
});
process.exit(0);
