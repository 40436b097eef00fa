/** Which database the variables name: there are three ways to do so. */
import { isHttp, withoutSlash } from './parse.ts'
import type { Platform, Variable } from './variables.ts'

/** Where the database is, and which protocol it speaks; TCP is for Node. */
export type Database = { kind: 'rest'; url: string; token: string } | { kind: 'tcp'; url: string }

const PAIRS = [
  ['KV_REST_API_URL', 'KV_REST_API_TOKEN'],
  ['UPSTASH_REDIS_REST_URL', 'UPSTASH_REDIS_REST_TOKEN'],
] as const

/**
 * The database of KV_* or UPSTASH_*, otherwise of REDIS_URL; `undefined` if no variable names one, or if one is wrong.
 * `text` gives the trimmed text of a variable that is set. Problems are added to `problems`.
 */
export function databaseOf(
  text: (name: Variable) => string | undefined,
  platform: Platform,
  problems: string[],
): Database | undefined {
  const pairs = PAIRS.flatMap(([urlName, tokenName]) => {
    const [address, token] = [text(urlName), text(tokenName)]
    if (address === undefined && token === undefined) return []
    if (address === undefined || token === undefined) {
      problems.push(`${urlName} and ${tokenName} go together; one of them is missing.`)
      return []
    }
    const url = withoutSlash(address)
    if (!isHttp(url)) {
      problems.push(`${urlName} must be an https address.`)
      return []
    }
    return [{ kind: 'rest' as const, url, token }]
  })
  const [first, second] = pairs
  if (first && second && (first.url !== second.url || first.token !== second.token)) {
    problems.push('KV_REST_API_* and UPSTASH_REDIS_REST_* name two databases; unset one pair.')
  }
  if (first) return first
  const address = text('REDIS_URL')
  if (address === undefined) return undefined
  const database = fromRedisUrl(address, platform)
  if (!database) {
    problems.push(
      platform === 'edge'
        ? 'REDIS_URL must be an Upstash address (rediss://default:PASSWORD@NAME.upstash.io:6379), ' +
            'since Redis over TCP works only on Node; or set KV_REST_API_URL and KV_REST_API_TOKEN.'
        : 'REDIS_URL must be an address of Redis (redis://HOST:6379/0, or rediss://USER:PASSWORD@HOST:6379/0 ' +
            'with TLS), on upstash.io with a password and port 6379.',
    )
  }
  return database
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
