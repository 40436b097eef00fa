/**
 * `npm run soak:edge`: a thousand random histories of requests in workerd, in which settlements are lost on their way; ends
 * with 1 at the first request that is not in the books, or twice. `-- --histories 50` sets another number, `--seed 7` makes
 * other histories.
 */
import { parseArgs } from 'node:util'
import { edgeHistories } from '../test/support/edge-histories.ts'
import { reapChildren } from './reaper.ts'

reapChildren()

const { values } = parseArgs({
  options: {
    histories: { type: 'string', default: '1000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
  },
})
const [histories, seed] = [Number(values.histories), Number(values.seed)]
if (!(Number.isSafeInteger(histories) && histories > 0 && Number.isSafeInteger(seed))) {
  console.error('--histories and --seed must be whole numbers')
  process.exit(2)
}

console.log(`seed ${seed}, ${histories} histories`)
const started = performance.now()
try {
  const told = await edgeHistories({
    ...{ histories, seed, killEvery: 5 },
    onProgress(soFar) {
      if (soFar.histories % 50 === 0) console.log(JSON.stringify(soFar))
    },
  })
  console.log(JSON.stringify(told))
  console.log(
    `each request is in the books once; ${Math.round((performance.now() - started) / 1000)} s`,
  )
} catch (error) {
  console.log(`WRONG: ${String(error)}`)
  process.exit(1)
}
process.exit(0)
