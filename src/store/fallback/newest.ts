/** Maps that keep their newest entries. */

/** The most entries. */
const MOST = 1000

/** Sets a value as the newest one, and removes the oldest if there are too many. */
export function setNewest<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key)
  map.set(key, value)
  const [oldest] = map.keys()
  if (map.size > MOST && oldest !== undefined) map.delete(oldest)
}
