/** Copies of the checkout for tools that write into it, and their runs. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

export type Checkout = {
  folder: string
  /**
   * Starts a command of node_modules/.bin in it, in a new process group, without accounts, telemetry or a home folder.
   */
  start(command: string, args: string[], vars?: Record<string, string>): ChildProcess
  /** Runs such a command to its end; rejects with its whole output if it fails. */
  run(command: string, args: string[]): Promise<void>
  remove(): Promise<void>
}

/** The files that a build reads. */
const PARTS = [
  'src',
  'static',
  'scripts',
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'vercel.json',
  'wrangler.toml',
  'wrangler.pages.toml',
]

export async function copyCheckout(): Promise<Checkout> {
  const parent = await mkdtemp(join(tmpdir(), 'weir-checkout-'))
  const folder = join(parent, 'weir')
  const home = join(parent, 'home')
  await mkdir(home)
  for (const part of PARTS) await cp(part, join(folder, part), { recursive: true })
  await symlink(resolve('node_modules'), join(folder, 'node_modules'))
  // An installation would go through the link, and take away what the tests need.
  type Settings = { installCommand?: string }
  const settings = JSON.parse(await readFile('vercel.json', 'utf8')) as Settings
  delete settings.installCommand
  await writeFile(join(folder, 'vercel.json'), JSON.stringify(settings))
  const { PATH } = process.env
  const env = {
    PATH,
    HOME: home,
    VERCEL_TELEMETRY_DISABLED: '1',
    NO_UPDATE_NOTIFIER: '1',
    WRANGLER_SEND_METRICS: 'false',
  }
  const start: Checkout['start'] = (command, args, vars) =>
    spawn(join(folder, 'node_modules/.bin', command), args, {
      cwd: folder,
      env: { ...env, ...vars },
      detached: true,
    })
  return {
    folder,
    start,
    async run(command, args) {
      const child = start(command, args)
      let output = ''
      for (const stream of [child.stdout, child.stderr]) {
        stream?.on('data', (data: Buffer) => (output += data.toString()))
      }
      const [code] = (await once(child, 'close')) as [number | null]
      if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${code}\n${output}`)
    },
    remove: () => rm(parent, { recursive: true, force: true, maxRetries: 5 }),
  }
}
