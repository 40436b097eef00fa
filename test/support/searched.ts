/**
 * Before each test file: all of it is searched for secrets. Logs, configurations, errors and databases of this process
 * are collected here, those of other processes and of clients in `overheard.ts`.
 */
import { afterAll, vi } from 'vitest'
import { addSecret, addText, takeLeaks } from './leaks.ts'
import './overheard.ts'
import type { Redis } from './redis.ts'
import { addRequest, addVariables } from './secrets.ts'
import { transcripts } from './transcripts.ts'

for (const { body } of Object.values(transcripts)) {
  const texts = Buffer.from(body)
    .toString()
    .matchAll(/"(?:content|text)":"([^"\\]+)"/g)
  for (const [, text = ''] of texts) addSecret('an answer', text)
}

vi.mock(import('../../src/log.ts'), async (original) => {
  const real = await original()
  return {
    ...real,
    createLog: (options) =>
      real.createLog({
        ...options,
        write(text) {
          addText({ place: 'a log line', text })
          options.write(text)
        },
      }),
  }
})

vi.mock(import('../../src/config/config.ts'), async (original) => {
  const real = await original()
  return {
    ...real,
    readConfig(vars, platform) {
      addVariables(vars)
      return real.readConfig(vars, platform)
    },
  }
})

vi.mock(import('../../src/errors.ts'), async (original) => {
  const real = await original()
  return {
    ...real,
    errorResponse(c, error, help) {
      addRequest(c.req.raw.headers, undefined)
      addText({ place: 'an error', text: JSON.stringify(error) })
      return real.errorResponse(c, error, help)
    },
  }
})

/**
 * All keys and values, but at most 1,000 of each kind. DUMP has the texts of a value of any type as they are, if
 * nothing is compressed.
 */
const DOCUMENTS = `
local found, kinds = {}, {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = key:match('^[^:]*:[^:]*:[^:]*') or ''
  kinds[kind] = (kinds[kind] or 0) + 1
  if kinds[kind] <= 1000 then
    found[#found + 1] = key
    found[#found + 1] = redis.call('DUMP', key)
  end
end
return found`

vi.mock(import('./redis.ts'), async (original) => {
  const real = await original()

  /** A database that is away has lost its documents already. */
  async function addDocuments({ command }: Redis): Promise<void> {
    const found = await command(['EVAL', DOCUMENTS, 0]).catch(() => [])
    for (const text of found as string[]) addText({ place: 'a document', text })
  }

  async function startRedis(folder?: string, more: string[] = []): Promise<Redis> {
    const redis = await real.startRedis(folder, [...more, '--rdbcompression', 'no'])
    return {
      ...redis,
      async flush() {
        await addDocuments(redis)
        await redis.flush()
      },
      async stop(signal) {
        // A server may be killed because it does not answer.
        if (signal !== 'SIGKILL') await addDocuments(redis)
        await redis.stop(signal)
      },
    }
  }
  return { ...real, startRedis }
})

afterAll(() => {
  const leaks = takeLeaks()
  if (leaks.length > 0) throw new Error(`Secrets were found:\n${leaks.join('\n')}`)
})
