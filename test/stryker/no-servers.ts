/** In place of test/world.ts and test/database.ts: the tests that need what these start are left out. */
export const useWorld = () => ({})
export const useDatabase = () => ({ redis: { flush: async () => undefined }, upstash: {} })
