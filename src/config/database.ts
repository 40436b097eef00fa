/** Which database the variables name: there are a few ways to do so. */
import { headerValue, isHttp, withoutSlash } from './parse.ts'
import type { Platform } from './variables.ts'

/** Where the database is, and which protocol it speaks; TCP is for Node. */
export type Database = Rest | { kind: 'tcp'; url: string }

type Rest = { kind: 'rest'; url: string; token: string }

/** The beginnings of the names of a pair; `URL` and `TOKEN` complete them. */
const PAIRS = ['KV_REST_API_', 'UPSTASH_REDIS_REST_']

/** The same behind a prefix, which can be chosen in Vercel's Marketplace: `STORAGE_KV_REST_API_URL`. */
const PREFIXED = /^(.+_(?:KV_REST_API_|UPSTASH_REDIS_REST_))(?:URL|TOKEN)$/

/**
 * The database of KV_* or UPSTASH_*, otherwise of REDIS_URL, otherwise of the one pair that has a prefix; `undefined`
 * if no variable names one, or if one is wrong. Problems are added to `problems`.
 */
export function databaseOf(
  vars: Readonly<Record<string, string | undefined>>,
  platform: Platform,
  problems: string[],
): Database | undefined {
  const text = (name: string) => vars[name]?.trim() || undefined

  function pairOf(start: string): Rest[] {
    const [urlName, tokenName] = [`${start}URL`, `${start}TOKEN`]
    const [address, token] = [text(urlName), text(tokenName)]
    if (address === undefined && token === undefined) return []
    if (address === undefined || token === undefined) {
      problems.push(`${urlName} and ${tokenName} go together; one of them is missing.`)
      return []
    }
    const url = withoutSlash(address)
    const parsed = headerValue(token)
    if (!isHttp(url)) problems.push(`${urlName} must be an https address.`)
    else if ('problem' in parsed) problems.push(`${tokenName} ${parsed.problem}`)
    else return [{ kind: 'rest', url, token }]
    return []
  }

  /** The one database of these pairs. */
  function oneOf(starts: string[], advice: string): Rest | undefined {
    const pairs = starts.flatMap((start) => pairOf(start).map((pair) => ({ start, pair })))
    const [first] = pairs
    const other = pairs.find(
      ({ pair }) => pair.url !== first?.pair.url || pair.token !== first.pair.token,
    )
    if (other) problems.push(`${first?.start}* and ${other.start}* name two databases; ${advice}.`)
    return first?.pair
  }

  const pair = oneOf(PAIRS, 'unset one pair')
  if (pair) return pair
  const address = text('REDIS_URL')
  if (address === undefined) {
    const starts = Object.keys(vars).flatMap((name) => PREFIXED.exec(name)?.[1] ?? [])
    return oneOf(
      [...new Set(starts)].sort(),
      'set KV_REST_API_URL and KV_REST_API_TOKEN to those of the one for Weir',
    )
  }
  const database = fromRedisUrl(address, platform)
  if (!database) problems.push(problemOf(address, platform))
  return database
}

function problemOf(address: string, platform: Platform): string {
  if (/^\w*[+-]?sentinel/i.test(address)) {
    return (
      'REDIS_URL cannot name Sentinels; set an address that always leads to the primary, such as that of a proxy ' +
      'which follows them (redis://HOST:6379/0). Weir opens new connections after a failover.'
    )
  }
  return platform === 'edge'
    ? 'REDIS_URL must be an Upstash address (rediss://default:PASSWORD@NAME.upstash.io:6379), ' +
        'since Redis over TCP works only on Node; or set KV_REST_API_URL and KV_REST_API_TOKEN.'
    : 'REDIS_URL must be an address of Redis (redis://HOST:6379/0, or rediss://USER:PASSWORD@HOST:6379/0 ' +
        'with TLS), on upstash.io with a password and port 6379.'
}

/** On *.upstash.io:6379 the REST host is the same and the password is the token; any other host speaks TCP. */
function fromRedisUrl(address: string, platform: Platform): Database | undefined {
  const url = URL.canParse(address) ? new URL(address) : undefined
  if (!url || !/^rediss?:$/.test(url.protocol) || !url.hostname) return undefined
  const password = decode(url.password)
  if (password === undefined) return undefined
  if (url.hostname.endsWith('.upstash.io')) {
    return password && (url.port === '' || url.port === '6379')
      ? { kind: 'rest', url: `https://${url.hostname}`, token: password }
      : undefined
  }
  const numbered = /^(\/\d*)?$/.test(url.pathname)
  return platform === 'node' && numbered && decode(url.username) !== undefined
    ? { kind: 'tcp', url: address }
    : undefined
}

function decode(value: string): string | undefined {
  try {
    return decodeURIComponent(value)
  } catch {
    return undefined
  }
}
