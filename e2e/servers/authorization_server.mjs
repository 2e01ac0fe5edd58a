// A certified authorization server: `node authorization_server.mjs PORT`, on loopback, until it is ended.
// It issues JWT access tokens (RFC 9068) for the resource that a client names (RFC 8707), with the scopes `mcp` and
// `files.read`. Clients: `machine` with the secret `machine-secret` (client credentials), `desktop` (public, code flow
// with PKCE, any port of 127.0.0.1), and all that register themselves (RFC 7591). A person logs in with any name and
// password, on pages with forms. ACCESS_TOKEN_SECONDS: how long access tokens are valid.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import Provider from "oidc-provider";

const [port] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const made = {
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
};
const keys = Object.entries(made).map(([alg, pair]) => ({
  ...pair.privateKey.export({ format: "jwk" }),
  kid: randomUUID(),
  use: "sig",
  alg,
}));

const provider = new Provider(issuer, {
  jwks: { keys },
  cookies: { keys: [randomUUID()] },
  clients: [
    {
      client_id: "machine",
      client_secret: "machine-secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: "desktop",
      application_type: "native",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: ["http://127.0.0.1/callback"],
    },
  ],
  scopes: ["openid", "offline_access", "mcp", "files.read"],
  pkce: { required: () => true },
  features: {
    clientCredentials: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (context, resource) => ({
        scope: "mcp files.read",
        audience: resource,
        accessTokenFormat: "jwt",
        accessTokenTTL: Number(process.env.ACCESS_TOKEN_SECONDS ?? 600),
        jwt: { sign: { alg: context.oidc.client.clientId === "machine" ? "ES256" : "RS256" } },
      }),
    },
  },
  extraTokenClaims: (_, token) => (token.accountId === undefined ? {} : { groups: ["staff"] }),
});
provider.listen(port, "127.0.0.1", () => console.log(`ready at ${issuer}`));
