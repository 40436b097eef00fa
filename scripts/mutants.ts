/**
 * `npm run mutants`: makes each mistake of test/support/mutants.ts in a copy of the project and runs the tests that
 * must notice it; ends with 1 if a mistake stays unnoticed. `-- --only ledger` or `defence` takes one of the tables,
 * `--name REGEXP` fewer mistakes.
 */
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { DEFENCE_MUTANTS, LEDGER_MUTANTS, type Mutant } from '../test/support/mutants.ts'

const { values } = parseArgs({
  options: { only: { type: 'string', default: '' }, name: { type: 'string', default: '' } },
})
const tables: Record<string, Mutant[]> = { ledger: LEDGER_MUTANTS, defence: DEFENCE_MUTANTS }
const chosen = Object.entries(tables)
  .filter(([name]) => values.only === '' || values.only === name)
  .flatMap(([, mutants]) => mutants)
  .filter(({ name }) => new RegExp(values.name).test(name))

const COPIED = [
  'src',
  'test',
  'scripts',
  'static',
  'package.json',
  'tsconfig.json',
  'vitest.config.ts',
]
const folder = mkdtempSync(join(tmpdir(), 'weir-mutants-'))
for (const name of COPIED) cpSync(name, join(folder, name), { recursive: true })
symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))

type Results = {
  numFailedTests: number
  numPassedTests: number
  testResults: { assertionResults: { fullName: string; failureMessages: string[] }[] }[]
}

/** The first failing test of a file and its reason; undefined if all pass. */
async function noticed(file: string, only: string | undefined): Promise<string | undefined> {
  const report = join(folder, 'report.json')
  rmSync(report, { force: true })
  const args = ['run', file, '--bail=1', '--reporter=json', `--outputFile=${report}`]
  if (only !== undefined) args.push('-t', only)
  const vitest = join(folder, 'node_modules/vitest/vitest.mjs')
  const child = spawn(process.execPath, [vitest, ...args], { cwd: folder, stdio: 'ignore' })
  await once(child, 'exit')
  const results = JSON.parse(readFileSync(report, 'utf8')) as Results
  const ran = results.numFailedTests + results.numPassedTests
  if (ran === 0) throw new Error(`${file} has no test for ${only}, or cannot be loaded`)
  const [failed] = results.testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ failureMessages }) => failureMessages.length)
  if (!failed) return undefined
  const [why = ''] = (failed.failureMessages[0] ?? '').split('\n')
  return `${file} ${failed.fullName}: ${why}`.slice(0, 250)
}

async function killerOf({ file, find, replace, tests, only }: Mutant): Promise<string | undefined> {
  const path = join(folder, file)
  const source = readFileSync(path, 'utf8')
  if (source.split(find).length !== 2) throw new Error(`${file} has not exactly one: ${find}`)
  writeFileSync(
    path,
    source.replace(find, () => replace),
  )
  try {
    for (const test of tests) {
      const found = await noticed(test, only)
      if (found !== undefined) return found
    }
    return undefined
  } finally {
    writeFileSync(path, source)
  }
}

const started = performance.now()
const alive: string[] = []
try {
  for (const mutant of chosen) {
    const killer = await killerOf(mutant)
    if (killer === undefined) alive.push(mutant.name)
    const seconds = Math.round((performance.now() - started) / 1000)
    console.log(
      `${`${seconds} s`.padStart(7)}  ${killer ? 'killed  ' : 'SURVIVED'}  ${mutant.name}`,
    )
    if (killer) console.log(`${' '.repeat(19)}${killer}`)
  }
} finally {
  rmSync(folder, { recursive: true })
}
console.log(`\n${chosen.length} mutants, ${chosen.length - alive.length} killed`)
process.exit(alive.length ? 1 : 0)
