// A workload that speaks OAuth by a library that nobody here wrote (oauth4webapi, certified by the OpenID Foundation). It
// discovers the server, exchanges its evidence for a bound access token and for a lease, uses the token, and asks about
// and ends both. It prints "ok", or says what the library did not accept.
//
//   node client.mjs LIBRARY SERVER EVIDENCE ROLE
import { pathToFileURL } from "node:url"

const [library, server, evidence, role] = process.argv.slice(2)
const oauth = await import(pathToFileURL(library))
const near = { [oauth.allowInsecureRequests]: true } // plain http, on this machine
const client = { client_id: "workload" }
const exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
const subject = { subject_token: evidence, subject_token_type: "urn:ietf:params:oauth:token-type:jwt" }

const fail = (text) => { throw new Error(text) }

const found = await oauth.discoveryRequest(new URL(server), { algorithm: "oauth2", ...near })
const as = await oauth.processDiscoveryResponse(new URL(server), found)
const oidc = await oauth.discoveryRequest(new URL(server), { algorithm: "oidc", ...near })
await oauth.processDiscoveryResponse(new URL(server), oidc)

const keys = await oauth.generateKeyPair("ES256")
const DPoP = oauth.DPoP(client, keys)
let nonces = 0

// again does a request once more where it lacked the server's nonce, which the library takes from the refusal.
async function again(request) {
	try {
		return await request()
	} catch (err) {
		if (!oauth.isDPoPNonceError(err)) throw err
		nonces++
		return request()
	}
}

const token = await again(async () => oauth.processGenericTokenEndpointResponse(as, client,
	await oauth.genericTokenEndpointRequest(as, client, oauth.None(), exchange, subject, { DPoP, ...near })))
if (token.token_type !== "dpop") fail(`token_type is ${token.token_type}`)

const leases = () => oauth.protectedResourceRequest(token.access_token, "GET", new URL(`${server}/v1/leases`), new Headers(), null, { DPoP, ...near })
const list = await (await again(leases)).json()
if (!Array.isArray(list.items)) fail(`leases are ${JSON.stringify(list)}`)

const thief = oauth.DPoP(client, await oauth.generateKeyPair("ES256"))
try {
	const stolen = await again(() => oauth.protectedResourceRequest(token.access_token, "GET", new URL(`${server}/v1/leases`), new Headers(), null, { DPoP: thief, ...near }))
	fail(`another key is answered ${stolen.status}`)
} catch (err) {
	if (!(err instanceof oauth.WWWAuthenticateChallengeError)) throw err
	if (err.cause[0].parameters.error !== "invalid_dpop_proof") fail(`another key: ${JSON.stringify(err.cause)}`)
}

const leased = await oauth.processGenericTokenEndpointResponse(as, client,
	await oauth.genericTokenEndpointRequest(as, client, oauth.None(), exchange, { ...subject, scope: `role:${role}` }, near),
	{ recognizedTokenTypes: { n_a: () => {} } })
if (leased.lease?.role !== role || !leased.credential) fail("the answer holds no lease")

const asWorkload = (_as, _client, _body, headers) => headers.set("authorization", `Bearer ${evidence}`)
const about = async (text) => oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, asWorkload, text, near))
for (const text of [token.access_token, leased.access_token]) {
	if (!(await about(text)).active) fail("a token is not active")
	await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, oauth.None(), text, near))
	if ((await about(text)).active) fail("a revoked token is active")
}

try {
	await oauth.processGenericTokenEndpointResponse(as, client,
		await oauth.genericTokenEndpointRequest(as, client, oauth.None(), exchange, { ...subject, scope: "role:none" }, near))
	fail("a role that is not is given")
} catch (err) {
	if (!(err instanceof oauth.ResponseBodyError) || err.error !== "invalid_scope") throw err
}
if (nonces < 1) fail("no nonce was asked for")
console.log("ok")
