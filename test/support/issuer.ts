/** An OIDC issuer on this machine, and tokens as issuers and applications sign them, made without the code under test. */
import { constants, createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

type Alg = 'RS256' | 'PS256' | 'ES256' | 'EdDSA'

/** A pair of keys of an issuer, with its public half as a key set shows it. */
export type Pair = {
  alg: Alg
  kid: string
  privateKey: KeyObject
  publicKey: KeyObject
  jwk: object
}

export function pairOf(
  kid: string,
  alg: Alg = 'ES256',
  told: object = { kid, alg, use: 'sig' },
): Pair {
  const { privateKey, publicKey } =
    alg === 'ES256'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : alg === 'EdDSA'
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('rsa', { modulusLength: 2048 })
  return {
    alg,
    kid,
    privateKey,
    publicKey,
    jwk: { ...publicKey.export({ format: 'jwk' }), ...told },
  }
}

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token with a signature that `signature` makes of the rest. */
export function jwt(
  header: unknown,
  payload: unknown,
  signature: (data: Buffer) => Buffer,
): string {
  const rest = `${part(header)}.${part(payload)}`
  return `${rest}.${signature(Buffer.from(rest)).toString('base64url')}`
}

/** A token of the application's own, by HS256. */
export const ownJwt = (payload: unknown, secret: string | Buffer, header: object = {}): string =>
  jwt({ alg: 'HS256', typ: 'JWT', ...header }, payload, (data) =>
    createHmac('sha256', secret).update(data).digest(),
  )

/** A token of an issuer. A field of the header that is undefined is left out. */
export const issuedJwt = (
  payload: unknown,
  { alg, kid, privateKey }: Pair,
  header: object = {},
): string =>
  jwt({ alg, typ: 'JWT', kid, ...header }, payload, (data) => signatureOf(alg, data, privateKey))

function signatureOf(alg: Alg, data: Buffer, key: KeyObject): Buffer {
  if (alg === 'EdDSA') return sign(null, data, key)
  if (alg === 'ES256') return sign('sha256', data, { key, dsaEncoding: 'ieee-p1363' })
  if (alg === 'RS256') return sign('sha256', data, key)
  return sign('sha256', data, {
    key,
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
  })
}

export type LocalIssuer = {
  /** Its row in JWT_ISSUERS. */
  row: { issuer: string; audience: string; jwksUrl: string }
  /** The keys that it shows. */
  pairs: Pair[]
  /** How often it was asked for them. */
  asked: number
  /** Answers instead, if it is set. */
  answer: RequestListener | undefined
  close(): Promise<void>
}

/** Starts an issuer whose tokens are for `audience`. */
export async function startIssuer(audience: string, ...pairs: Pair[]): Promise<LocalIssuer> {
  const server = createServer((request, response) => {
    issuer.asked += 1
    if (issuer.answer) return issuer.answer(request, response)
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ keys: issuer.pairs.map(({ jwk }) => jwk) }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const issuer: LocalIssuer = {
    row: { issuer: `${url}/`, audience, jwksUrl: `${url}/jwks.json` },
    pairs,
    asked: 0,
    answer: undefined,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return issuer
}
