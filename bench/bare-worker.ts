/** The bare pass-through as a worker. */
import { bareApp } from './bare.ts'

export default {
  fetch: (request: Request, { BARE_UPSTREAM }: { BARE_UPSTREAM: string }) =>
    bareApp(BARE_UPSTREAM).fetch(request),
}
