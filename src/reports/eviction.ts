/** What an evicting database means, in words. */

/** `policy` is the database's `maxmemory-policy`. */
export const evictionWarning = (policy: string): string =>
  `The database removes keys when its memory is full (maxmemory-policy ${policy}), and with them counts and blocks: set it to noeviction.`
