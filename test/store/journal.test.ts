/** The files of the local store: restarts, crashes, and invalid files. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { appendFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import type { Admitted } from '../../src/ledger/answers.ts'
import { runningOf, whole } from '../../src/ledger/rows.ts'
import { usedIn } from '../../src/ledger/policy.ts'
import { CLOCK_TOLERANCE_MS } from '../../src/ledger/rules.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import { DAY_MS } from '../../src/ledger/windows.ts'
import type { LocalStore } from '../../src/store/local/store.ts'
import { StoreError } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { spend, stateOf, useLocalFiles, type HandlePrototype } from '../support/local-files.ts'
import { randomOf } from '../support/random.ts'

const files = useLocalFiles()
const { crash, fileIn, handles, journalOf, launch, linesOf, openStore, refusal, saved, warnings } =
  files
const { writeLines } = files

/** The files of an open store. */
const NAMES = ['token_usage.json', 'token_usage.json.journal', 'token_usage.json.lock']

/** The files of a folder, without the lock. */
async function textsIn(place: string): Promise<Record<string, string>> {
  const logs = join(place, 'logs')
  const names = (await readdir(logs)).filter((name) => !name.endsWith('.lock'))
  const texts = names.map(async (name) => [name, await readFile(join(logs, name), 'utf8')] as const)
  return Object.fromEntries(await Promise.all(texts))
}

test('usage is still there after close and reopen, and the journal is folded away', async () => {
  const store = await openStore()
  await spend(store, '1')
  const open = admitOf({ id: '2', reserved: 70 })
  await store.execute(open)
  await store.execute({ op: 'block', now: NOON, user: 'bob', model: '*', block: { at: NOON } })
  const before = await stateOf(store)
  await store.close()
  expect(statSync(journalOf()).size).toBe(0)
  expect(existsSync(`${fileIn()}.lock`)).toBe(false)
  const again = await openStore()
  expect(await stateOf(again)).toEqual(before)
  expect(await again.execute(settleOf(open))).toEqual({ applied: true })
  expect(await again.execute(admitOf({ id: '3', user: 'bob' }))).toMatchObject({
    reason: 'blocked',
  })
})

test('usage is still there after a crash, and after a second one', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const second = await openStore()
  await spend(second, '2')
  const third = await openStore({ place: await crash() })
  expect(await stateOf(third)).toEqual(await stateOf(second))
})

test('what admins decided is still there after a restart and after a crash', async () => {
  const store = await openStore()
  const key = {
    hash: 'hash',
    start: 'weir_1',
    last4: 'abcd',
    created: NOON,
    expires: NOON + DAY_MS,
  }
  const user = 'alice'
  const decide = async (one: LocalStore, plan: string) => {
    await one.execute({
      op: 'plan',
      now: NOON,
      name: plan,
      plan: { limits: { '*': { tokensPerDay: 150 } } },
    })
    await one.execute({ op: 'settings', now: NOON, set: { defaultPlan: plan } })
    await one.execute({
      op: 'profile',
      now: NOON,
      user,
      set: { label: 'Ada', words: { ada: 1 }, notBefore: 7 },
    })
    await one.execute({ op: 'key', now: NOON, user, id: plan, action: 'create', key })
  }
  const decided = async (one: LocalStore) => ({
    policy: await one.policy(),
    profile: (await one.user(user))?.profile,
    found: (await one.searchLabels('ad', 9)).length,
  })
  await decide(store, 'free')
  const first = await decided(store)
  await store.close()
  const second = await openStore()
  expect(await decided(second)).toEqual(first)
  await decide(second, 'pro')
  const third = await openStore({ place: await crash() })
  expect(await decided(third)).toEqual(await decided(second))
  const asked = admitOf({ id: '1', user, key: { id: 'free', hash: 'hash' } })
  expect(await third.execute(asked)).toMatchObject({ ok: true, plan: 'pro' })
  expect(await third.execute({ ...asked, id: '2' })).toMatchObject({ ok: false, limit: 150 })
  expect(
    await third.execute({ ...asked, id: '3', key: { id: 'free', hash: 'other' } }),
  ).toMatchObject({
    reason: 'key',
  })
})

test('refusals and replays are not written', async () => {
  const store = await openStore()
  const admit = admitOf({ id: '1' })
  await store.execute(admit)
  const before = readFileSync(journalOf(), 'utf8')
  await store.execute(admit)
  await store.execute(
    admitOf({ id: '2', limits: { model: { tokensPerDay: 1, requestsPerDay: 1 } } }),
  )
  await store.execute(settleOf(admitOf({ id: 'unknown' })))
  expect(readFileSync(journalOf(), 'utf8')).toBe(before)
})

test('kill -9 loses nothing that was acknowledged and doubles nothing', async ({
  onTestFailed,
}) => {
  const seed = Date.now() % 2 ** 31
  onTestFailed(() => console.error(`seed ${seed}`))
  const random = randomOf(seed)
  const admitted = new Set<string>()
  const settled = new Set<string>()
  for (let round = 0; round < 5; round += 1) {
    const child = launch()
    child.say(`work ${fileIn()} ${round}`)
    const count = random.int(40, 740)
    let line: string | undefined
    let killed: Promise<void> | undefined
    for (let n = 0; (line = await child.hear()) !== undefined; n += 1) {
      const [word = '', id = ''] = line.split(' ')
      if (word === 'admitted') admitted.add(id)
      if (word === 'settled') settled.add(id)
      if (n === count) killed = child.kill()
    }
    expect(killed).toBeDefined()
    await killed
    const store = await openStore({ retention: { eventsKept: 1e6 } })
    const { users, days, quotas, events } = await stateOf(store)
    const ended = events.map(({ id }) => id)
    const open = users.flatMap(({ usage }) => Object.keys(usage.leases))
    expect(new Set([...ended, ...open]).size).toBe(ended.length + open.length)
    expect([...settled].filter((id) => !ended.includes(id))).toEqual([])
    expect([...admitted].filter((id) => !ended.includes(id) && !open.includes(id))).toEqual([])
    // At most the one running command of each lane is in the files without an answer.
    expect(ended.length + open.length).toBeLessThanOrEqual(admitted.size + 8 * (round + 1))
    for (const { usage } of users) {
      const mine = events.filter((event) => event.user === usage.id)
      const charged = mine.reduce((sum, event) => sum + event.charged, 0)
      const running = Object.keys(usage.leases).length
      const reserved = 100 * running
      const row = whole(usage.models['a/one']?.row ?? {})
      expect(row).toMatchObject({
        requests: mine.length + running,
        exact: mine.length,
        charged: charged + reserved,
        reserved,
      })
      expect(runningOf(row)).toBe(running)
    }
    const charged = events.reduce((sum, event) => sum + event.charged, 0)
    expect(days[0]?.total).toMatchObject({ requests: ended.length, charged })
    expect(usedIn(quotas['*']?.windows, 'day', NOON)).toEqual({
      requests: ended.length + open.length,
      tokens: charged + 100 * open.length,
      usd: 0,
    })
    await store.close()
  }
}, 60_000)

test('an incomplete last line is cut off, and later lines are kept', async () => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  const size = statSync(journalOf()).size
  const reason = 'zażółć 🦢'
  const block = { at: NOON, reason }
  await store.execute({ op: 'block', now: NOON, user: 'alice', model: 'x', block })
  const whole = readFileSync(journalOf())
  for (let cut = size; cut < whole.length; cut += 1) {
    const place = await crash()
    await writeFile(journalOf(place), whole.subarray(0, cut))
    const again = await openStore({ place })
    expect(await stateOf(again)).toEqual(before)
    expect(statSync(journalOf(place)).size).toBe(size)
    await spend(again, '2')
    const third = await openStore({ place: await crash(place) })
    expect(await stateOf(third)).toEqual(await stateOf(again))
  }
  expect(warnings).toEqual([])
}, 30_000)

const DAMAGE: [string, (line: string) => string | Buffer][] = [
  ['is garbage', () => 'garbage'],
  ['is empty', () => ''],
  ['is cut', (line) => line.slice(0, -9)],
  ['is not UTF-8', (line) => Buffer.from(line.replace('bob', '\xff\xfe\xff'), 'latin1')],
  ['has no number', (line) => line.replace('"seq"', '"sec"')],
  ['has no command', (line) => line.replace('"command"', '"comment"')],
  ['has a command that is null', () => '{"v":2,"seq":3,"command":null}'],
  ['has a command of an unknown kind', (line) => line.replace('"admit"', '"adnit"')],
  ['has a command without limits', (line) => line.replace('"limits"', '"limitz"')],
]

test.each(DAMAGE)('a line that %s is set aside and the rest is kept', async (_, spoil) => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  await store.execute(admitOf({ id: '2', user: 'bob' }))
  const after = settleOf(admitOf({ id: '3', user: 'carol' }))
  await spend(store, '3', { user: 'carol' })
  const place = await crash()
  const lines = linesOf(place).map((line) => Buffer.from(line))
  const damaged = Buffer.from(spoil(String(lines[2])))
  lines[2] = damaged
  await writeFile(
    journalOf(place),
    Buffer.concat(lines.flatMap((line) => [line, Buffer.from('\n')])),
  )

  const again = await openStore({ place })
  const setAside = `${fileIn(place)}.damaged`
  expect(warnings).toEqual([
    { event: 'journal.damaged', fields: { file: journalOf(place), lines: [3], setAside } },
  ])
  expect(await readFile(setAside)).toEqual(Buffer.concat([damaged, Buffer.from('\n')]))
  const { users, events } = await stateOf(again)
  expect(users.find(({ usage }) => usage.id === 'alice')).toEqual(before.users[0])
  expect(events.map(({ id }) => id)).toEqual([after.event.id, '1'])
  // The lost admission was all of its user, so the settlement counts the request.
  expect(await again.execute(settleOf(admitOf({ id: '2', user: 'bob' })))).toEqual({
    applied: true,
  })

  await spend(again, '4')
  const third = await openStore({ place: await crash(place) })
  expect(await stateOf(third)).toEqual(await stateOf(again))
})

test('a journal of 4 MB is folded into the snapshot, and nothing is lost', async () => {
  const store = await openStore()
  const reason = 'x'.repeat(100_000)
  const block = (n: number) =>
    store.execute({
      op: 'block',
      now: NOON,
      user: `user-${n}`,
      model: '*',
      block: { at: NOON, reason },
    })
  for (let n = 0; n < 41; n += 1) {
    await spend(store, `${n}`, { user: `user-${n}` })
    await block(n)
  }
  expect(existsSync(fileIn())).toBe(false)
  await block(41)
  // Written while the journal is folded, and after.
  await Promise.all(['a', 'b', 'c'].map((id) => spend(store, id)))
  await spend(store, 'd')
  await expect.poll(() => statSync(journalOf()).size).toBeLessThan(10_000)
  expect(statSync(fileIn()).size).toBeGreaterThan(4_000_000)
  expect(await readdir(dirname(fileIn()))).toEqual(NAMES)
  const again = await openStore({ place: await crash() })
  expect(await stateOf(again)).toEqual(await stateOf(store))
})

test('an empty line is set aside, and what comes before and after it is kept', async () => {
  const store = await openStore()
  await spend(store, '1')
  const place = await crash()
  await writeLines(place, ['', ...linesOf(place)])
  expect(await stateOf(await openStore({ place }))).toEqual(await stateOf(store))
  expect(warnings).toMatchObject([{ event: 'journal.damaged', fields: { lines: [1] } }])
})

test('not even the last command of a snapshot is applied again', async () => {
  const store = await openStore()
  await store.execute({ op: 'note', now: NOON, action: 'export' })
  const lines = linesOf()
  await store.close()
  await writeLines(files.folder, lines)
  expect(await (await openStore()).audit(9)).toHaveLength(1)
})

test('a journal that is already in the snapshot is not applied twice', async () => {
  const store = await openStore()
  await spend(store, '1')
  const admit = admitOf({ id: '2' })
  await store.execute(admit)
  const old = linesOf()
  const before = await stateOf(store)
  await store.close()
  await writeLines(files.folder, old)
  const again = await openStore()
  expect(await stateOf(again)).toEqual(before)
  await again.execute(settleOf(admit))
  const third = await openStore({ place: await crash() })
  expect(await stateOf(third)).toEqual(await stateOf(again))
})

test('a closed store writes nothing more, also after another store has opened the files', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const next = await openStore()
  await spend(next, '2')
  const before = readFileSync(fileIn(), 'utf8')
  await store.close()
  const error = await store.execute(admitOf({ id: '3' })).catch((cause: unknown) => cause)
  expect(error).toEqual(new StoreError(`${fileIn()} is closed`))
  expect(readFileSync(fileIn(), 'utf8')).toBe(before)
  await expect(openStore()).rejects.toThrow('already uses')
})

test('an empty snapshot is refused; after it is moved away, the journal is read', async () => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  const place = await crash()
  await writeFile(fileIn(place), '')
  const journal = readFileSync(journalOf(place))
  expect((await refusal({ place })).message).toBe(
    `${fileIn(place)} is empty; restore a copy, or move it away to continue with ${journalOf(place)}`,
  )
  expect(readFileSync(fileIn(place), 'utf8')).toBe('')
  expect(readFileSync(journalOf(place))).toEqual(journal)
  await rm(fileIn(place))
  expect(await stateOf(await openStore({ place }))).toEqual(before)
})

test('an empty journal is like a missing one', async () => {
  const store = await openStore()
  await spend(store, '1')
  const before = await stateOf(store)
  await store.close()
  expect(statSync(journalOf()).size).toBe(0)
  const again = await openStore()
  expect(await stateOf(again)).toEqual(before)
  await again.close()
  await rm(journalOf())
  expect(await stateOf(await openStore())).toEqual(before)
})

test('commands are acknowledged while the journal is folded, and are in the files at each moment', async () => {
  await mkdir(dirname(fileIn()))
  const ended = { op: 'settle', now: NOON, user: 'nobody', event: { id: 'x'.repeat(4 << 20) } }
  await writeLines(files.folder, [JSON.stringify({ v: VERSION, seq: 1, command: ended })])
  const store = await openStore()
  const prototype = await handles()
  const { write, sync } = prototype
  const admit = (id: string) => store.execute(admitOf({ id }))
  let second: Promise<unknown> | undefined
  vi.spyOn(prototype, 'write').mockImplementationOnce(function (this: HandlePrototype, ...args) {
    // Already applied when the snapshot is made, but not in the journal.
    second = admit('2')
    return write.apply(this, args)
  })
  const copies: string[] = []
  const copied = new Promise<void>((resolve) => {
    vi.spyOn(prototype, 'sync').mockImplementationOnce(async function (this: HandlePrototype) {
      await Promise.all([second, admit('3')])
      copies.push(await crash())
      await sync.call(this)
      setImmediate(resolve)
    })
  })
  await admit('1')
  await copied
  await expect.poll(() => statSync(journalOf()).size).toBeLessThan(10_000)
  expect(statSync(journalOf()).size).toBeGreaterThan(0)
  copies.push(await crash())
  for (const place of copies) {
    const again = await openStore({ place })
    for (const id of ['1', '2', '3']) {
      expect(await again.execute(settleOf(admitOf({ id })))).toEqual({ applied: true })
    }
  }
})

test.each([
  'not json',
  '[]',
  'null',
  '{"seq":1,"state":{}}',
  '{"v":"2","seq":1,"state":{}}',
  '{"v":2,"seq":"1","state":{}}',
  '{"v":2,"seq":1}',
  '{"v":2,"seq":1,"state":null}',
  '{"v":2,"seq":1,"state":{"usage":{}}}',
  '{"v":2,"seq":1,"state":{"usage":[{"id":"alice"}]}}',
  '{"v":2,"seq":1,"state":{"usage":[{"v":2,"id":"alice","windows":5}]}}',
  '{"v":2,"seq":1,"state":{"quotas":[["*",{}]]}}',
  '{"v":2,"seq":1,"state":{"events":5}}',
])('a snapshot that says %j is refused, left alone, and can be moved away', async (text) => {
  await mkdir(dirname(fileIn()))
  await writeFile(fileIn(), text)
  expect((await refusal()).message).toBe(
    `${fileIn()} is not a usage file of Weir; move it away to start without usage`,
  )
  expect(readFileSync(fileIn(), 'utf8')).toBe(text)
  await rm(fileIn())
  await spend(await openStore(), '1')
})

test('the snapshot and each line of the journal contain their version', async () => {
  const store = await openStore()
  await spend(store, '1')
  const versions = linesOf().map((line) => (JSON.parse(line) as { v: number }).v)
  expect(versions).toEqual([VERSION, VERSION])
  await store.close()
  expect(saved().v).toBe(VERSION)
})

/** Expects that opening a folder fails with a message that ends like this, and changes nothing. */
async function expectRefused(place: string, message: string): Promise<void> {
  const before = await textsIn(place)
  expect((await refusal({ place })).message).toBe(message)
  expect(await textsIn(place)).toEqual(before)
  expect(warnings).toEqual([])
}

const NEWER = 'was written by a newer version of Weir; update this one'
const OLDER =
  'was written by a version of Weir from before the first release; move it away to start without usage'

test.each([
  ['a newer version', VERSION + 1, NEWER],
  ['before the first release', 1, OLDER],
])('a snapshot of %s is refused and stays as it is', async (_, v, message) => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  await spend(await openStore(), '2')
  const place = await crash()
  await writeFile(fileIn(place), JSON.stringify({ ...saved(place), v }))
  await expectRefused(place, `${fileIn(place)} ${message}`)
})

test('a snapshot with a document of a newer version is refused and stays as it is', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const whole = saved()
  for (const documents of [whole.state.usage, whole.state.days]) {
    for (const doc of documents) doc.v += 1
    await writeFile(fileIn(), JSON.stringify(whole))
    await expectRefused(files.folder, `${fileIn()} ${NEWER}`)
    for (const doc of documents) doc.v -= 1
  }
})

const OTHER_LINES: [string, (line: object) => object, string][] = [
  ['a newer version', (line) => ({ ...line, v: VERSION + 1 }), NEWER],
  ['before the first release', (line) => ({ ...line, v: 1 }), OLDER],
  ['before there were versions', (line) => ({ ...line, v: undefined }), OLDER],
]

test.each(OTHER_LINES)(
  'a journal with a line of %s is refused and stays as it is, among other lines too',
  async (_, change, message) => {
    const store = await openStore()
    for (const id of ['1', '2', '3']) await spend(store, id)
    const place = await crash()
    const lines = linesOf(place)
    for (const [n, line] of lines.entries()) {
      const other = JSON.stringify(change(JSON.parse(line) as object))
      await writeLines(place, lines.with(n, other).with(n === 0 ? 1 : 0, 'damaged'))
      await expectRefused(place, `${journalOf(place)} ${message}`)
    }
    await writeLines(place, lines)
    expect(await stateOf(await openStore({ place }))).toEqual(await stateOf(store))
  },
)

test('fields that a newer version adds to a document are kept', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const whole = saved()
  Object.assign(whole.state.usage[0] as object, { label: 'Alice' })
  await writeFile(fileIn(), JSON.stringify(whole))
  const again = await openStore()
  await spend(again, '2')
  await again.close()
  expect(saved().state.usage).toMatchObject([{ id: 'alice', label: 'Alice' }])
})

const YEAR_MS = 365 * DAY_MS
const NEAR_MS = 60_000

test('commands of a clock that is a year ahead run now, and again after a restart at the same time', async () => {
  const start = Date.now()
  const store = await openStore({ now: () => Date.now(), tolerance: CLOCK_TOLERANCE_MS })
  await spend(store, '1', { now: start })
  vi.setSystemTime(start + YEAR_MS)
  const ahead = admitOf({ id: '2', now: Date.now() })
  await store.execute(ahead)
  await store.execute(settleOf(ahead))
  await store.execute({ op: 'block', now: Date.now(), user: 'bob', model: '*' })
  const times = linesOf().map((line) => (JSON.parse(line) as { command: Admit }).command.now)
  for (const at of times) expect(Math.abs(at - start)).toBeLessThan(NEAR_MS)
  const before = await stateOf(store, start)
  expect(before.users[0]?.usage.at).toBeLessThan(start + NEAR_MS)
  expect(before.days.map(({ total }) => total.requests)).toEqual([2])

  vi.useRealTimers()
  const place = await crash()
  const again = await openStore({ place, now: () => Date.now(), tolerance: CLOCK_TOLERANCE_MS })
  expect(await stateOf(again, start)).toEqual(before)
  // By the clock of the process, nothing has expired either.
  vi.setSystemTime(start + YEAR_MS)
  await store.close()
  vi.useRealTimers()
  const third = await openStore({ now: () => Date.now(), tolerance: CLOCK_TOLERANCE_MS })
  expect(await stateOf(third, start)).toEqual(before)
})

test('a first command of a clock that is a year ahead runs now', async () => {
  const start = Date.now()
  const store = await openStore({ now: () => Date.now(), tolerance: CLOCK_TOLERANCE_MS })
  const answer = await store.execute(admitOf({ id: '1', now: start + YEAR_MS }))
  expect(Math.abs((answer as Admitted).at - start)).toBeLessThan(NEAR_MS)
})

test('commands of a clock that is less than a minute ahead run at their own time', async () => {
  const start = Date.now()
  const store = await openStore({ now: () => Date.now(), tolerance: CLOCK_TOLERANCE_MS })
  await spend(store, '1', { now: start })
  const now = start + 50_000
  expect(await store.execute(admitOf({ id: '2', now }))).toMatchObject({ at: now })
})

test('after a restart with a clock that is a year behind, time continues from the last time', async () => {
  const store = await openStore()
  await spend(store, '1')
  await store.close()
  const again = await openStore({ now: () => NOON - YEAR_MS, tolerance: CLOCK_TOLERANCE_MS })
  const answer = await again.execute(admitOf({ id: '2', now: NOON - YEAR_MS }))
  expect(answer).toMatchObject({ ok: true, at: NOON + 1000 })
  await again.close()
  expect(saved().state.usage).toMatchObject([{ models: { 'a/one': { row: { requests: 2 } } } }])
})

test('only the newest events are kept', async () => {
  const retention = { userDays: 7, historyDays: 90, eventsKept: 100 }
  const store = await openStore({ retention })
  const entries = Array.from({ length: 180 }, (_, n) => {
    const { user, event } = settleOf(admitOf({ id: `${n}` }))
    return { op: 'enter', now: NOON, user, event } as const
  })
  await store.replay(entries)
  const ids = (await store.events(1000)).map(({ id }) => id)
  expect(ids).toEqual(Array.from({ length: 100 }, (_, n) => `${179 - n}`))
})

test('a probe leaves no file, and fails if nothing can be written', async () => {
  const store = await openStore()
  const logs = dirname(fileIn())
  const before = await readdir(logs)
  await store.probe()
  expect(await readdir(logs)).toEqual(before)
  await rm(logs, { recursive: true })
  const error = await store.probe().catch((cause: unknown) => cause)
  expect(error).toEqual(new StoreError(`cannot write beside ${fileIn()}`))
  expect((error as StoreError).cause).toMatchObject({ code: 'ENOENT' })
})

test('lines are appended together, in order', async () => {
  const store = await openStore()
  await Promise.all(Array.from({ length: 50 }, (_, n) => store.execute(admitOf({ id: `${n}` }))))
  const lines = linesOf().map((line) => JSON.parse(line) as { seq: number; command: Admit })
  expect(lines.map(({ seq }) => seq)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1))
  expect(lines.map(({ command }) => command.id)).toEqual(lines.map((_, n) => `${n}`))
})

/**
 * The places where the files name a user. The mark of an erasure stays as long as an event of the user may still be
 * entered.
 */
async function named(place: string, user: string): Promise<string[]> {
  const texts = Object.values(await textsIn(place))
  return texts.flatMap((text) => text.match(new RegExp(`.?"${user}".`, 'g')) ?? [])
}

const ERASED = 'alice-who-is-erased'
const erase = (store: LocalStore) => store.execute({ op: 'erase', now: NOON + 5000, user: ERASED })

async function useOf(store: LocalStore, user: string): Promise<void> {
  const admit = admitOf({ id: `of ${user}`, user })
  await store.execute(admit)
  await store.execute(settleOf(admit, { session: 's' }))
  await store.execute({ op: 'block', now: NOON, user, model: '*', block: { at: NOON } })
}

test('after the answer to an erasure, no file names the user, except in the mark of the erasure', async () => {
  const store = await openStore()
  await useOf(store, ERASED)
  await useOf(store, 'bob')
  expect((await named(files.folder, ERASED)).length).toBeGreaterThan(0)
  await Promise.all([erase(store), useOf(store, 'carol')])
  expect(await named(files.folder, ERASED)).toEqual([`["${ERASED}",`])
  expect(Object.keys(await textsIn(files.folder)).sort()).toEqual([
    'token_usage.json',
    'token_usage.json.journal',
  ])
  await store.close()
  const again = await openStore({ now: () => NOON + 7 * DAY_MS + 4999 })
  expect(await again.user('bob')).toBeDefined()
  expect(await again.user(ERASED)).toBeUndefined()
  const late = { ...settleOf(admitOf({ id: 'late', user: ERASED })), op: 'enter' } as const
  expect(await again.replay([late])).toEqual([{ applied: false }])
  await again.close()
  expect(await named(files.folder, ERASED)).toEqual([`["${ERASED}",`])
  await (await openStore({ now: () => NOON + 7 * DAY_MS + 5000 })).close()
  expect(await named(files.folder, ERASED)).toEqual([])
})

test('the next start completes an erasure that a crash interrupted', async () => {
  const store = await openStore()
  await useOf(store, ERASED)
  await store.execute({ op: 'note', now: NOON, action: 'export' })
  const place = join(files.folder, 'after the crash')
  await cp(join(files.folder, 'logs'), join(place, 'logs'), { recursive: true })
  await rm(`${fileIn(place)}.lock`, { force: true, recursive: true })
  const line = { v: VERSION, seq: 5, command: { op: 'erase', now: NOON + 5000, user: ERASED } }
  await appendFile(`${fileIn(place)}.journal`, `${JSON.stringify(line)}\n`)
  const again = await openStore({ place })
  expect(await named(place, ERASED)).toEqual([`["${ERASED}",`])
  expect(await again.user(ERASED)).toBeUndefined()
  expect((await again.audit(1))[0]?.action).toBe('erase')
})

test('an erasure fails while the files cannot be written, and a later attempt works', async () => {
  const store = await openStore()
  await useOf(store, ERASED)
  await useOf(store, 'bob')
  await mkdir(fileIn())
  const error = await erase(store).catch((cause: unknown) => cause)
  expect(error).toEqual(new StoreError(`cannot write beside ${fileIn()}`))
  expect((error as StoreError).cause).toBeInstanceOf(Error)
  expect(warnings.map(({ event }) => event)).toEqual(['journal.not_compacted'])
  expect(await store.user(ERASED)).toBeUndefined()
  await useOf(store, 'carol')
  await rm(fileIn(), { recursive: true })
  expect(await erase(store)).toEqual({ ok: true })
  expect(await named(files.folder, ERASED)).toEqual([`["${ERASED}",`])
  await store.close()
  await expect(erase(store)).rejects.toBeInstanceOf(StoreError)
})
