/**
 * The public keys of an OIDC issuer, kept while it is away. On workerd a request must not wait for the promise of another
 * one, so requests share only values: one request fetches, and the others look by timers of their own whether it has
 * ended.
 */
import type { Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { MINUTE_MS, SECOND_MS, minuteOf } from '../ledger/windows.ts'
import type { BodyReader } from '../ports.ts'
import { isObject, type Json } from './jwt.ts'

/** How the keys of each algorithm are imported. No other algorithm is taken, and none with a shared secret. */
const ALGORITHMS = {
  RS256: { kty: 'RSA', import: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } },
  PS256: { kty: 'RSA', import: { name: 'RSA-PSS', hash: 'SHA-256' } },
  ES256: { kty: 'EC', crv: 'P-256', import: { name: 'ECDSA', namedCurve: 'P-256' } },
  EdDSA: { kty: 'OKP', crv: 'Ed25519', import: { name: 'Ed25519' } },
} as const

export type Algorithm = keyof typeof ALGORITHMS

/** Whether issuers may sign with an algorithm. */
export const isAlgorithm = (value: unknown): value is Algorithm =>
  typeof value === 'string' && Object.hasOwn(ALGORITHMS, value)

/** A key for one algorithm. */
export type PublicKey = { kid: unknown; alg: Algorithm; key: CryptoKey }

export type WaitUntil = (work: Promise<unknown>) => void

export type KeySet = {
  /** The keys. Throws `issuer_unavailable` if there are none yet. */
  keys(waitUntil: WaitUntil): Promise<PublicKey[]>
  /** The keys for a token that fits none of the known keys. Throws `issuer_unavailable` if nobody can tell. */
  newer(waitUntil: WaitUntil): Promise<PublicKey[]>
}

/** How long keys are used before they are fetched again. */
const FRESH_MS = 10 * MINUTE_MS

/** How often an unknown key may cause a fetch. */
const UNKNOWN_MS = 30 * SECOND_MS

/** After a failure, the next try is after this time, and each further one after twice the time. */
const RETRY_MS = SECOND_MS

/** How often a request looks whether another one has fetched the keys. */
const LOOK_MS = 20

const MAX_BYTES = 256 * 1024

type Options = Pick<Deps, 'fetchKeys' | 'now' | 'log'> & {
  url: string
  /** How long a fetch may take. */
  limitMs?: number
}

/** Builds the keys that an issuer shows at an address. Nothing is fetched before they are asked for. */
export function createKeySet({
  url,
  fetchKeys,
  now,
  log,
  limitMs = 2 * SECOND_MS,
}: Options): KeySet {
  let known: PublicKey[] | undefined
  let fetchedAt = 0
  /** When the next fetch may begin. */
  let nextAt = 0
  let failures = 0
  /** When the running fetch has ended at the latest, even if its request was cut off; 0 if none runs. */
  let runsUntil = 0
  let warnedIn = -1

  async function fetchNow(): Promise<void> {
    try {
      known = await readKeys(fetchKeys, url, limitMs)
      fetchedAt = now()
      nextAt = fetchedAt + UNKNOWN_MS
      failures = 0
    } catch (error) {
      nextAt = now() + Math.min(UNKNOWN_MS, RETRY_MS * 2 ** failures)
      failures += 1
      const minute = minuteOf(now())
      if (minute !== warnedIn) log.warn('issuer.away', { jwksUrl: url, error })
      warnedIn = minute
    } finally {
      runsUntil = 0
    }
  }

  /** Fetches the keys if it is time, or waits for a running fetch. */
  async function look(waitUntil: WaitUntil): Promise<void> {
    if (now() >= runsUntil && now() >= nextAt) {
      runsUntil = now() + limitMs + SECOND_MS
      const work = fetchNow()
      // So that it goes on when the client leaves.
      waitUntil(work)
      return work
    }
    while (now() < runsUntil) await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }

  function away(): ApiError {
    return new ApiError(
      'issuer_unavailable',
      'The issuer of this token does not answer with its keys; try again soon.',
    )
  }

  return {
    async keys(waitUntil) {
      if (!known || now() >= fetchedAt + FRESH_MS) {
        const looked = look(waitUntil)
        // While the issuer is away, nobody who has keys waits for it.
        if (!known || failures === 0) await looked
      }
      if (!known) throw away()
      return known
    },
    async newer(waitUntil) {
      await look(waitUntil)
      if (!known || failures > 0) throw away()
      return known
    },
  }
}

/** Fetches the keys that can be used. Throws if there are none. */
async function readKeys(
  fetch: Deps['fetchKeys'],
  url: string,
  limitMs: number,
): Promise<PublicKey[]> {
  const controller = new AbortController()
  let reader: BodyReader | undefined
  const timer = setTimeout(() => {
    controller.abort(new Error(`no answer within ${limitMs} ms`))
    void reader?.cancel().catch(() => undefined)
  }, limitMs)
  try {
    const answer = await fetch(url, {
      method: 'GET',
      headers: { accept: 'application/json' },
      body: null,
      signal: controller.signal,
      // Another host might answer for the issuer.
      redirect: 'manual',
    })
    reader = answer.body?.getReader()
    if (answer.status !== 200 || !reader) {
      void reader?.cancel().catch(() => undefined)
      throw new Error(`answered ${answer.status}`)
    }
    const text = await textOf(reader)
    controller.signal.throwIfAborted()
    return await importKeys(text)
  } finally {
    clearTimeout(timer)
  }
}

async function textOf(reader: BodyReader): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.length
    if (size > MAX_BYTES) {
      void reader.cancel().catch(() => undefined)
      throw new Error(`answered more than ${MAX_BYTES} bytes`)
    }
    text += decoder.decode(next.value, { stream: true })
  }
  return text
}

/** The keys of a set (RFC 7517) that verify signatures with our algorithms. */
async function importKeys(text: string): Promise<PublicKey[]> {
  const jwks = listOf(text)
  const keys = await Promise.all(
    jwks.flatMap((jwk) => Object.keys(ALGORITHMS).map((alg) => importKey(jwk, alg as Algorithm))),
  )
  const usable = keys.filter((key) => key !== undefined)
  if (!usable.length) throw new Error('answered no key that can be used')
  return usable
}

function listOf(text: string): Json[] {
  let keys: unknown
  try {
    ;({ keys } = JSON.parse(text) as { keys?: unknown })
  } catch {
    // Its message quotes the answer.
  }
  if (!Array.isArray(keys)) throw new Error('answered no JSON with keys')
  return keys.filter(isObject)
}

/** A key for an algorithm, or undefined if the value is not such a key. */
async function importKey(jwk: Json, alg: Algorithm): Promise<PublicKey | undefined> {
  const { kty, crv, n, e, x, y, kid, use = 'sig', key_ops: operations = ['verify'] } = jwk
  const wanted: { kty: string; crv?: string; import: object } = ALGORITHMS[alg]
  if (kty !== wanted.kty || crv !== wanted.crv || (jwk.alg ?? alg) !== alg) return undefined
  if (use !== 'sig' || !(Array.isArray(operations) && operations.includes('verify')))
    return undefined
  try {
    // Only what is public: a set that holds private keys as well still verifies.
    const own = { kty, crv, n, e, x, y } as JsonWebKey
    const key = await crypto.subtle.importKey('jwk', own, ALGORITHMS[alg].import, false, ['verify'])
    return { kid, alg, key }
  } catch {
    return undefined
  }
}
