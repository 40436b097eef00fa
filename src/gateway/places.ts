/** A bounded number of places. No user can take all of them. A pure counter. */

export type Places = {
  /** Takes a place, and returns the function that leaves it; or says whose places are all taken. */
  take(user: string): (() => void) | 'user' | 'everyone'
}

/** Builds `total` places, of which one user can have `perUser`. */
export function createPlaces({ perUser, total }: { perUser: number; total: number }): Places {
  const users = new Map<string, number>()
  let taken = 0

  return {
    take(user) {
      const own = users.get(user) ?? 0
      if (own >= perUser) return 'user'
      if (taken >= total) return 'everyone'
      users.set(user, own + 1)
      taken += 1
      let left = false
      return () => {
        if (left) return
        left = true
        taken -= 1
        const rest = (users.get(user) ?? 1) - 1
        if (rest > 0) users.set(user, rest)
        else users.delete(user)
      }
    },
  }
}
