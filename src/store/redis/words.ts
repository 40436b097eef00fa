/** The text of an error reply, without the values that a database puts into it. */

/** A reply is one sentence. */
const MOST = 240

/** After these words, a reply quotes the command. */
const QUOTES = /,? (with args beginning with|command was|script): .*$/s

/** An IPv4 address or an IPv6 address, with or without a port. */
const ADDRESS = /\b\d{1,3}(\.\d{1,3}){3}(:\d+)?|\[?[\da-f]*:[\da-f]*:[\da-f:.]*\]?(:\d+)?/gi

/** The name of the user in `NOPERM User alice has no permissions…`. */
const USER = /\b(User) \S+ (has)\b/g

/**
 * The code and the text of a reply, without addresses, names of users, what it quotes of the command, and other
 * `values` that must not be shown.
 */
export function withoutValues(reply: string, values: readonly string[] = []): string {
  let text = reply.replace(QUOTES, '')
  for (const value of values) if (value.length > 3) text = text.replaceAll(value, '…')
  return text
    .replace(ADDRESS, '…')
    .replace(USER, '$1 … $2')
    .replace(/[\x00-\x1f\x7f]+/g, ' ')
    .slice(0, MOST)
    .trim()
}
