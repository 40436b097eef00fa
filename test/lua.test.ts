import fc from 'fast-check'
import luamin from 'luamin'
import { expect, test } from 'vitest'
import { LEDGER_SCRIPT } from '../src/store/ledger.lua.ts'
import { PREFIX } from '../src/store/keys.ts'
import { commandSequence } from './commands.ts'
import { useDatabase } from './database.ts'
import { RETENTION } from './stores.ts'

const { redis } = useDatabase()

const { userDays, historyDays, eventsKept } = RETENTION

/** All that a script answers to commands, and leaves in an empty database. */
async function run(script: string, batches: string[][]): Promise<unknown> {
  await redis.flush()
  const head = JSON.stringify({ prefix: PREFIX, keep: { userDays, historyDays, eventsKept } })
  const answers: unknown[] = []
  for (const batch of batches) {
    answers.push(await redis.command(['EVAL', script, 1, `${PREFIX}audit`, head, ...batch]))
  }
  const keys = ((await redis.command(['KEYS', '*'])) as string[]).sort()
  const dumps = await Promise.all(keys.map((key) => redis.command(['TYPE', key])))
  const values = await Promise.all(
    keys.map((key, n) => redis.command(READ[String(dumps[n])]!(key))),
  )
  return { answers, keys, values }
}

const READ: Record<string, (key: string) => (string | number)[]> = {
  string: (key) => ['GET', key],
  list: (key) => ['LRANGE', key, 0, -1],
  zset: (key) => ['ZRANGE', key, 0, -1, 'WITHSCORES'],
}

test('the script with shortened names, as it is deployed, does the same as the one that is read', async () => {
  const short = luamin.minify(LEDGER_SCRIPT)
  expect(short.length).toBeLessThan(LEDGER_SCRIPT.length * 0.75)
  await fc.assert(
    fc.asyncProperty(
      fc.array(commandSequence(12), { minLength: 1, maxLength: 4 }),
      async (histories) => {
        const batches = histories.map((history) => history.map((one) => JSON.stringify(one)))
        expect(await run(short, batches)).toEqual(await run(LEDGER_SCRIPT, batches))
      },
    ),
    { numRuns: 150 },
  )
}, 60_000)
