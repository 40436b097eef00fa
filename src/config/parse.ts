/** Parsers for the text of one variable. */
import { GROQ_URL } from '../providers/groq.ts'

/** A value, or what is wrong with the text: the rest of a sentence that begins with the variable's name. */
type Parsed<T> = { value: T } | { problem: string }

/** Reads the trimmed text of a variable, which is never empty. No problem may quote the text: it may be a secret. */
export type Parse<T> = (text: string) => Parsed<T>

/** Takes any text. */
export const anyText: Parse<string> = (value) => ({ value })

/** Takes what can be sent in a header. */
export const headerValue: Parse<string> = (value) =>
  // A line break would make `fetch` fail with a message that quotes the value.
  /^[\x21-\x7e]*$/.test(value) ? { value } : { problem: 'must be printable ASCII without spaces.' }

/** Takes a header value that is long enough not to be guessed. */
export const adminKey: Parse<string> = (text) =>
  text.length < 16 ? { problem: 'must have at least 16 characters.' } : headerValue(text)

/** Takes digits only. */
export function wholeNumber(min: number, max: number): Parse<number> {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN
    return value >= min && value <= max
      ? { value }
      : { problem: `must be a whole number from ${min} to ${max}.` }
  }
}

/** Takes one of these words. */
export function oneOf<const T extends string>(...words: T[]): Parse<T> {
  return (text) => {
    const value = words.find((word) => word === text)
    return value === undefined ? { problem: `must be one of: ${words.join(', ')}.` } : { value }
  }
}

/** Takes how many proxies are trusted: off, on for one, or their number. */
export const hops: Parse<number> = (text) => {
  if (text === 'off') return { value: 0 }
  if (text === 'on') return { value: 1 }
  return /^[1-9]$/.test(text)
    ? { value: Number(text) }
    : { problem: 'must be one of: off, on, or the number of proxies from 1 to 9.' }
}

/** Takes a host name or an address without a port. */
export const host: Parse<string> = (text) => {
  const value = text.replace(/^\[(.*)\]$/, '$1')
  const isHost =
    /^[\w.-]+$/.test(value) || URL.canParse(`http://[${value.replace(/%[\w.-]+$/, '')}]`)
  return isHost
    ? { value }
    : { problem: 'must be an address or a name without a port, such as 127.0.0.1 or ::1.' }
}

/** Takes a path, without the slash at its end; / is the root. */
export const path: Parse<string> = (text) => {
  const value = withoutSlash(text)
  return /^(\/(?!\.{1,2}(\/|$))[\w.~-]+)*$/.test(value) && text.startsWith('/')
    ? { value }
    : { problem: 'must be a path such as /weir, of letters, digits and . _ ~ -' }
}

/** Takes items between commas and drops the empty ones. */
export const list: Parse<string[]> = (text) => ({
  value: text
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean),
})

/** Takes `*` and origins, as browsers write them; a label of a host may be `*`. */
export const origins: Parse<string[]> = (text) => {
  const parsed = list(text)
  const host = /^[a-z][\w+.-]*:\/\/((\*|[^/?#*.A-Z]+)\.)*[^/?#*.A-Z]+$/
  const fits = (item: string) => item === '*' || host.test(item)
  return 'value' in parsed && !parsed.value.every(fits)
    ? {
        problem:
          'must be * or origins such as https://app.example or https://*.app.example, without a path.',
      }
    : parsed
}

/** The address of a page, http or https. */
export const pageUrl: Parse<string> = (text) =>
  isHttp(text)
    ? { value: text }
    : { problem: 'must be the address of a page, such as https://example.com/help.' }

/** Takes the address that `/openai/v1` is appended to; slashes at its end are dropped. */
export const providerUrl: Parse<string> = (text) => {
  const value = withoutSlash(text)
  return isHttp(value) && !value.endsWith('/openai/v1')
    ? { value }
    : { problem: `must be an http(s) address without /openai/v1, such as ${GROQ_URL}.` }
}

/** Whether a text is an http or https address. */
export const isHttp = (text: string): boolean =>
  URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)

/** An address without the slashes at its end. */
export const withoutSlash = (text: string): string => text.replace(/\/+$/, '')
