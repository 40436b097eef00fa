/** `npm run lint` finds a violation of each rule of the project. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const FILES = {
  'package.json': '{ "type": "module", "dependencies": { "never-imported": "1.0.0" } }',
  'tsconfig.json':
    '{ "compilerOptions": { "module": "esnext", "moduleResolution": "bundler", "strict": true } }',
  'src/node.ts': "import { value } from './platform/top.ts'\nvoid value",
  'src/platform/top.ts': 'export const value = 1\nexport type Top = 1\nexport const extra = 2',
  'src/routes/value.ts': "import { value } from '../platform/top.ts'\nvoid value",
  'src/routes/passed-on.ts': "export { value } from '../platform/top.ts'",
  'src/routes/in-time.ts': "void (await import('../platform/top.ts'))",
  'src/store/redis/type.ts':
    "import type { Top } from '../../platform/top.ts'\nexport type T = Top",
  'src/ledger/inline.ts': "export type T = import('../platform/top.ts').Top",
  'src/errors.ts': "import type { T } from './ledger/inline.ts'\nexport type E = T",
  'src/store/this.ts': "import type { That } from './that.ts'\nexport type This = { that: That }",
  'src/store/that.ts': "import type { This } from './this.ts'\nexport type That = { this: This }",
  'src/config/tested.ts': "import { help } from '../../test/help.ts'\nvoid help",
  'src/elsewhere/file.ts': 'export const unplaced = 1',
  'src/http/promises.ts':
    'export const work = async () => 1\nwork()\n;[1].forEach(async () => void (await work()))',
  'test/help.ts': 'export const help = 1',
}

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'weir-lint-'))
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))
  for (const [name, text] of Object.entries(FILES)) {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
  }
})

afterAll(() => rmSync(folder, { recursive: true }))

function run(command: string, ...args: string[]) {
  const path = resolve('node_modules/.bin', command)
  const { status, stdout } = spawnSync(path, args, { cwd: folder, encoding: 'utf8' })
  return { status, stdout }
}

test('it finds an import from a room above, a circular import and a floating promise', () => {
  const { status, stdout } = run('oxlint', '-c', resolve('.oxlintrc.json'), '-f', 'unix', 'src')
  const found = [...stdout.matchAll(/^(\S+?):\d+:\d+: (.*) \[Error\/\S+\((\S+)\)\]$/gm)]
  expect(status).toBe(1)
  expect(found.map(([, file, said, rule]) => `${file} ${rule}: ${said}`).toSorted()).toEqual([
    'src/config/tested.ts rooms: src may not import from test.',
    'src/elsewhere/file.ts rooms: The order of the rooms does not list elsewhere.',
    'src/errors.ts rooms: errors.ts may not import from ledger, which is above it.',
    expect.stringContaining('src/http/promises.ts no-floating-promises: '),
    expect.stringContaining('src/http/promises.ts no-misused-promises: '),
    'src/ledger/inline.ts rooms: ledger may not import from platform, which is above it.',
    'src/routes/in-time.ts rooms: routes may not import from platform, which is above it.',
    'src/routes/passed-on.ts rooms: routes may not import from platform, which is above it.',
    'src/routes/value.ts rooms: routes may not import from platform, which is above it.',
    'src/store/redis/type.ts rooms: store may not import from platform, which is above it.',
    expect.stringContaining('src/store/that.ts no-cycle: '),
    expect.stringContaining('src/store/this.ts no-cycle: '),
  ])
})

test('it finds unused files, exports and dependencies', () => {
  const args = ['-c', resolve('knip.jsonc'), '--directory', folder, '--reporter', 'compact']
  const { status, stdout } = run('knip', ...args)
  expect(status).toBe(1)
  expect(stdout).toMatch(/^src\/elsewhere\/file\.ts/m)
  expect(stdout).toMatch(/^package\.json: never-imported$/m)
  expect(stdout).toMatch(/^src\/platform\/top\.ts: extra$/m)
})

test('architecture.md lists the rooms in the order that is held', () => {
  const [, order] = /"weir\/rooms": (\[[^\]]*\])/.exec(readFileSync('.oxlintrc.json', 'utf8')) ?? []
  const [, ...rooms] = JSON.parse(order ?? '') as string[]
  const [, table] = readFileSync('docs/architecture.md', 'utf8').split('\n| room ')
  const listed = [...(table ?? '').matchAll(/^\| `src\/([^`]+)` +\|/gm)].map(([, room]) => room)
  // The table writes the files of one room as `{a,b}.ts`, the rule as `a.ts b.ts`.
  expect(listed).toEqual(
    rooms.map((room) =>
      room.includes(' ') ? `{${room.replaceAll('.ts', '').replaceAll(' ', ',')}}.ts` : room,
    ),
  )
})
