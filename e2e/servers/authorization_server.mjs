// A certified authorization server: `node authorization_server.mjs PORT`, on loopback, until it is ended.
// It issues JWT access tokens (RFC 9068) for the resource that a client names (RFC 8707), with the scopes `mcp` and
// `files.read`. Clients: `machine` with the secret `machine-secret` (client credentials), `exchanger` with the secret
// `exchanger-secret` (token exchange, RFC 8693), `desktop` (public, code flow with PKCE, any port of 127.0.0.1), and all
// that register themselves (RFC 7591). A person logs in with any name and
// password, on pages with forms. ACCESS_TOKEN_SECONDS: how long access tokens are valid.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createLocalJWKSet, jwtVerify } from "jose";
import Provider, { errors } from "oidc-provider";

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
      client_id: "exchanger",
      client_secret: "exchanger-secret",
      grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"],
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

// Token exchange is not built in. This one exchanges access tokens of this server, for the resource that is named.
const type = "urn:ietf:params:oauth:token-type:access_token";
const publicKeys = createLocalJWKSet({
  keys: keys.map(({ kty, n, e, crv, x, y, kid, use, alg }) => ({ kty, n, e, crv, x, y, kid, use, alg })),
});
async function exchange(context) {
  const { client, params } = context.oidc;
  if (params.subject_token_type !== type) throw new errors.InvalidRequest("another subject_token_type");
  const subject = await jwtVerify(params.subject_token, publicKeys, { issuer, typ: "at+jwt" }).catch(() => {
    throw new errors.InvalidGrant("the subject_token is not valid");
  });
  const resource = params.resource;
  const info = { scope: "mcp files.read", audience: resource, accessTokenFormat: "jwt", accessTokenTTL: 600 };
  const token = new provider.AccessToken({
    accountId: subject.payload.sub,
    client,
    grantId: randomUUID(),
    gty: "token_exchange",
    scope: params.scope ?? "mcp",
  });
  token.resourceServer = new provider.ResourceServer(resource, { ...info, jwt: { sign: { alg: "RS256" } } });
  context.body = {
    access_token: await token.save(),
    issued_token_type: type,
    token_type: "Bearer",
    expires_in: token.expiration,
    scope: token.scope,
  };
}
const members = ["subject_token", "subject_token_type", "requested_token_type", "resource", "audience", "scope"];
provider.registerGrantType("urn:ietf:params:oauth:grant-type:token-exchange", exchange, members);
provider.listen(port, "127.0.0.1", () => console.log(`ready at ${issuer}`));
