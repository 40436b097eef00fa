/** How long requests waited for the first byte, from the recent ones: rows of days do not have it. */
import type { Event } from '../ledger/events.ts'

/** Half of the requests waited at most `p50`, and 95 of 100 at most `p95`: in ms. */
type Waits = { p50: number; p95: number; requests: number }

export type Latency = {
  all: Waits | undefined
  /** The model with most requests first. */
  models: (Waits & { model: string })[]
  /** Equal parts of the time of the recent requests, the oldest first; undefined where none was. */
  parts: { from: number; waits: Waits | undefined }[]
}

const PARTS = 12

/** The waits of requests that were answered. */
export function latencyOf(events: Event[]): Latency {
  const seen = events.flatMap(({ at, model, ttfbMs, outcome }) =>
    ttfbMs === undefined || outcome === 'failed' ? [] : [{ at, model, ttfbMs }],
  )
  const models = [...new Set(seen.map(({ model }) => model))].flatMap((model) => {
    const waits = waitsOf(seen.filter((one) => one.model === model))
    return waits ? [{ model, ...waits }] : []
  })
  const times = seen.map(({ at }) => at)
  const first = Math.min(...times)
  const width = (Math.max(...times) - first) / PARTS || 1
  const parts = seen.length
    ? Array.from({ length: PARTS }, (_, n) => ({
        from: first + n * width,
        waits: waitsOf(
          seen.filter(({ at }) => Math.min(PARTS - 1, Math.floor((at - first) / width)) === n),
        ),
      }))
    : []
  return {
    all: waitsOf(seen),
    models: models.sort((a, b) => b.requests - a.requests),
    parts,
  }
}

function waitsOf(seen: { ttfbMs: number }[]): Waits | undefined {
  const sorted = seen.map(({ ttfbMs }) => ttfbMs).sort((a, b) => a - b)
  // The nearest rank: https://en.wikipedia.org/wiki/Percentile#The_nearest-rank_method
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]
  const [p50, p95] = [at(0.5), at(0.95)]
  return p50 === undefined || p95 === undefined ? undefined : { p50, p95, requests: sorted.length }
}
