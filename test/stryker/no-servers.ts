/** In place of test/support/world.ts and test/support/database.ts: the tests that need what these start are left out. */
export const useWorld = () => ({})
export const useDatabase = () => ({ redis: { flush: async () => undefined }, upstash: {} })
