/** The package that `npm pack` makes, started as `npx` does: from another folder, with nothing but what it depends on. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { mayBeIn } from '../support/secrets.ts'

const run = promisify(execFile)

type Packed = { filename: string; size: number; files: { path: string }[] }

let folder: string
let packed: Packed

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-pack-'))
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder])
  packed = (JSON.parse(stdout) as Packed[])[0] as Packed
})
afterAll(() => rm(folder, { recursive: true }))

test('the package has what runs, and nothing else', () => {
  const tops = new Set(packed.files.map(({ path }) => path.split('/')[0]))
  expect([...tops].toSorted()).toEqual(
    [
      'LICENSE',
      'README.md',
      'package.json',
      'scripts',
      'src',
      'static',
      'tsconfig.json',
    ].toSorted(),
  )
  const scripts = packed.files.filter(({ path }) => path.startsWith('scripts/'))
  expect(scripts.map(({ path }) => path)).toEqual(['scripts/weir.mjs'])
  expect(packed.size).toBeLessThan(600 * 1024)
})

test('npx starts it in an empty folder, on this machine only, and a model answers', async () => {
  const [modules, cwd] = [join(folder, 'node_modules'), join(folder, 'work')]
  const weir = join(modules, 'weir')
  for (const path of [weir, cwd]) await mkdir(path, { recursive: true })
  await run('tar', ['-xzf', join(folder, packed.filename), '-C', weir, '--strip-components=1'])
  type Package = { dependencies: object; bin: { weir: string } }
  const { dependencies, bin } = JSON.parse(
    await readFile(join(weir, 'package.json'), 'utf8'),
  ) as Package
  for (const name of Object.keys(dependencies)) {
    await mkdir(dirname(join(modules, name)), { recursive: true })
    await symlink(resolve('node_modules', name), join(modules, name))
  }

  const { PATH } = process.env
  const child = spawn(join(weir, bin.weir), { cwd, env: { PATH, HOME: folder, PORT: '0' } })
  const ended = once(child, 'exit')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => (output += data.toString()))
  }
  await expect.poll(() => output, { timeout: 20_000 }).toContain('Authorization')
  const [, key = ''] = /made up and kept in \S+: (\S+)/.exec(output) ?? []
  mayBeIn(['the output of a process', 'a document'], key)
  const [, url = ''] = /listens on (http:\/\/127\.0\.0\.1:\d+)\n/.exec(output) ?? []
  const answer = await fetch(`${url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': 'token-of-the-package' },
    body: '{"prompt":"Hello"}',
  })
  expect(await answer.text()).toContain('demo model')
  for (const path of ['/', '/demo', '/demo/demo.js', '/tracker.js', '/api/openapi.json']) {
    expect([path, (await fetch(url + path)).status]).toEqual([path, 200])
  }
  child.kill('SIGTERM')
  expect((await ended)[0]).toBe(0)
  expect(await readdir(cwd)).toEqual(['logs'])
}, 40_000)
