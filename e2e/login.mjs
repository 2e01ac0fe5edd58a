// An agent on the official TypeScript SDK that logs in by itself: `node login.mjs URL legacy|modern machine|person ISSUER
// PYTHON` calls the tool `echo` through the gateway at URL and prints the result. Legacy is version 1 of the SDK, modern
// version 2. A machine has credentials of its own; a person registers the program and logs in with browser.py.
import { execFileSync } from "node:child_process";
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { ClientCredentialsProvider as LegacyMachine } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import { UnauthorizedError as LegacyUnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  Client,
  ClientCredentialsProvider,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from "@modelcontextprotocol/client";

const [url, era, kind, issuer, python] = process.argv.slice(2);
const modern = era === "modern";

class Person {
  redirectUrl = "http://127.0.0.1:9/callback";
  clientMetadata = {
    client_name: `typescript-${era}`,
    application_type: "native",
    redirect_uris: [this.redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "none",
  };
  kept = {};
  clientInformation = () => this.kept.client;
  saveClientInformation = (client) => void (this.kept.client = client);
  tokens = () => this.kept.tokens;
  saveTokens = (tokens) => void (this.kept.tokens = tokens);
  codeVerifier = () => this.kept.verifier;
  saveCodeVerifier = (verifier) => void (this.kept.verifier = verifier);
  saveDiscoveryState = (state) => void (this.kept.discovery = state);
  discoveryState = () => this.kept.discovery;
  redirectToAuthorization = (address) => {
    this.callback = new URL(execFileSync(python, ["browser.py", address.href], { encoding: "utf-8" }).trim());
  };
}

const credentials = { clientId: "machine", clientSecret: "machine-secret", expectedIssuer: issuer, scope: "mcp" };
const Machine = modern ? ClientCredentialsProvider : LegacyMachine;
const authProvider = kind === "machine" ? new Machine(credentials) : new Person();

function open() {
  const me = { name: `typescript-${era}`, version: "1.0.0" };
  const Transport = modern ? StreamableHTTPClientTransport : LegacyTransport;
  const client = modern
    ? new Client(me, { versionNegotiation: { mode: { pin: "2026-07-28" } } })
    : new LegacyClient(me);
  return [client, new Transport(new URL(url), { authProvider })];
}

let [client, transport] = open();
try {
  await client.connect(transport);
} catch (error) {
  if (!(error instanceof UnauthorizedError || error instanceof LegacyUnauthorizedError)) throw error;
  const { searchParams } = authProvider.callback;
  await (modern ? transport.finishAuth(searchParams) : transport.finishAuth(searchParams.get("code")));
  [client, transport] = open();
  await client.connect(transport);
}
const result = await client.callTool({ name: "echo", arguments: { text: `hello from ${kind}` } });
console.log(JSON.stringify(result));
await client.close();
