/**
 * The short form of `npm run soak`: one gateway, one failure of its database, and every bad answer of upstream at
 * least once.
 */
import { expect, test } from 'vitest'
import { memoryOf, soak } from '../support/soak.ts'
import { ANSWERS } from '../support/soak-upstream.ts'

test('mixed traffic with many failures is answered, and each request is counted once', async () => {
  const { wrong, requests, outcomes, served, exact, answers, faults, degraded } = await soak({
    ...{ seed: 1, line: 'rest', ms: 2000, slots: 24, paceMs: 300 },
    ...{ requestSeconds: 2, upstreamMs: 1500, largeBytes: 9_000_000 },
    ...{ upMs: [400, 400], downMs: [800, 800], faults: ['comes and goes'] },
  })
  expect(wrong).toEqual([])
  expect(Object.values(outcomes).reduce((sum, count) => sum + count, 0)).toBe(requests)
  expect(exact).toBe(served)
  expect(Object.keys(answers).sort()).toEqual(
    Object.keys(ANSWERS)
      .map((name) => `m/${name}`)
      .sort(),
  )
  expect(faults['comes and goes']).toBeGreaterThan(0)
  expect(degraded).toBeGreaterThan(0)
}, 90_000)

test('memory that grows after warming up is told from memory that does not', () => {
  const minutes = (mb: (minute: number) => number) =>
    Array.from({ length: 30 * 60 }, (_, second) => mb(second / 60))
  const growth = (rss: number[]) => {
    const { early, late } = memoryOf(rss)
    return late / early
  }
  expect(growth(minutes((minute) => Math.min(100 + 20 * minute, 180)))).toBe(1)
  expect(growth(minutes((minute) => 150 + 2 * minute))).toBeGreaterThan(1.2)
})
