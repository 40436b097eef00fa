/** The short form of `npm run soak:edge`. */
import { expect, test } from 'vitest'
import { edgeHistories } from '../support/edge-histories.ts'

test('whatever becomes of a settlement in workerd, its request is in the books once', async () => {
  const told = await edgeHistories({ histories: 8, seed: 20, killEvery: 4 })
  expect(told.kills).toBe(2)
  expect(told.carried).toBeGreaterThan(told.settlements / 2)
}, 120_000)
