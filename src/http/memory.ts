/** Memory of bodies in progress, which all requests of an instance share. Pure: it counts, and says who gives way. */

/** The part of one body. */
export type Share = {
  /** Takes more bytes. The largest body that is still arriving gives way for them. False if that is this one. */
  take(bytes: number): boolean
  /** The body is complete, so it no longer gives way. */
  arrived(): void
  /** Gives the bytes back. */
  release(): void
}

/** Builds the memory, of `total` bytes. */
export function createBodyMemory(total: number) {
  type Arriving = { bytes: number; giveWay(): void }
  /** The oldest first. */
  const arriving = new Set<Arriving>()
  let used = 0

  function largest(): Arriving | undefined {
    let found: Arriving | undefined
    for (const one of arriving) if (one.bytes > (found?.bytes ?? 0)) found = one
    return found
  }

  /** Opens the share of a body. `giveWay` must release it. */
  return function open(giveWay: () => void): Share {
    const own: Arriving = { bytes: 0, giveWay }
    arriving.add(own)
    return {
      take(bytes) {
        while (used + bytes > total) {
          const other = largest()
          // A slow client holds its memory for a long time. Clients that come later must not wait for it.
          if (!other || other === own || other.bytes < own.bytes + bytes) return false
          other.giveWay()
        }
        used += bytes
        own.bytes += bytes
        return true
      },
      arrived: () => void arriving.delete(own),
      release() {
        arriving.delete(own)
        used -= own.bytes
        own.bytes = 0
      },
    }
  }
}
