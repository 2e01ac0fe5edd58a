// A hosted tracker: an MCP server on the official SDK that wants tokens of an authorization server, the certified
// `oidc-provider`, on the same port. `node oidc.mjs PORT SECONDS`: access tokens live for so many seconds.
// GET /grants returns what the authorization server has done so far.
import { AsyncLocalStorage } from "node:async_hooks";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import Provider from "oidc-provider";
import { z } from "zod";

const [port, seconds] = process.argv.slice(2).map(Number);
const issuer = `http://127.0.0.1:${port}`;
const resource = `${issuer}/mcp`;
const scopes = ["issues:read", "issues:write"];
const done = [];
const accounts = new AsyncLocalStorage();

const provider = new Provider(issuer, {
  scopes: ["openid", "offline_access"],
  clientBasedCORS: () => false,
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: () => seconds, Grant: 3600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  cookies: { keys: ["a key of this test"] },
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, indicator) => {
        if (indicator !== resource) throw new Error("another resource");
        return { scope: scopes.join(" "), audience: resource, accessTokenFormat: "opaque" };
      },
      useGrantedResource: () => true,
    },
  },
});
for (const event of ["grant.success", "grant.error", "grant.revoked", "registration_create.success"]) {
  provider.on(event, (context) => done.push([event, context?.oidc?.params?.grant_type ?? ""]));
}
provider.on("refresh_token.destroyed", () => done.push(["refresh_token.destroyed", ""]));

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: "tracker", version: "1.0" });
  const inputSchema = z.object({ query: z.string() });
  server.registerTool("search", { description: "Search issues.", inputSchema }, ({ query }) => ({
    content: [{ type: "text", text: `no issue has ${query}` }],
  }));
  const me = { description: "Says who is logged in.", inputSchema: z.object({}) };
  server.registerTool("whoami", me, () => ({ content: [{ type: "text", text: accounts.getStore() }] }));
  return server;
});

async function mcp(request, response) {
  const token = await provider.AccessToken.find((request.headers.authorization ?? "").replace(/^Bearer /, ""));
  if (!token || token.isExpired || token.aud !== resource || !token.scope.split(" ").includes("issues:read")) {
    const metadata = `${issuer}/.well-known/oauth-protected-resource/mcp`;
    response.writeHead(401, { "WWW-Authenticate": `Bearer scope="issues:read", resource_metadata="${metadata}"` }).end();
    return;
  }
  const body = request.method === "POST" ? Readable.toWeb(request) : undefined;
  const { method, headers } = request;
  const asked = new Request(resource, { method, headers, body, duplex: "half" });
  const answer = await accounts.run(token.accountId, () => handler.fetch(asked));
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  if (answer.body) Readable.fromWeb(answer.body).pipe(response);
  else response.end();
}

const authorize = provider.callback();
createServer((request, response) => {
  const json = (value) => response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(value));
  if (request.url === "/mcp") mcp(request, response).catch((error) => response.writeHead(500).end(String(error)));
  else if (request.url === "/.well-known/oauth-protected-resource/mcp")
    json({ resource, authorization_servers: [issuer], scopes_supported: ["issues:read"] });
  else if (request.url === "/grants") json(done);
  else authorize(request, response);
}).listen(port, "127.0.0.1");
