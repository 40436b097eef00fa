/** Runs the checks of smoke.ts against TEST_URL if it is set, otherwise against a gateway on Node. */
import { describe } from 'vitest'
import { ADMIN_KEY } from '../support/gateways.ts'
import { smoke } from '../support/smoke.ts'
import { useWorld } from '../support/world.ts'

const { TEST_URL, TEST_MODEL, ADMIN_KEY: adminKey } = process.env
const model = TEST_MODEL ?? 'openai/gpt-oss-20b'

if (TEST_URL) {
  describe(TEST_URL, () => {
    smoke(() => ({ url: TEST_URL.replace(/\/+$/, ''), adminKey, model }))
  })
} else {
  describe('on Node', () => {
    const world = useWorld()
    smoke(async () => ({ url: (await world.gateway('node')).url, adminKey: ADMIN_KEY, model }))
  })
}
