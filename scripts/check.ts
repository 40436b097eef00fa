/** The checks of `npm test` that are not tests, all at once. Prints the output of those that fail. */
import { exec } from 'node:child_process'

/** The slowest first. */
const CHECKS = [
  'prettier --check .',
  'npm run lint',
  'tsc',
  'tsc -p tsconfig.static.json',
  'npm run lua',
]

function check(command: string): Promise<void> {
  return new Promise((resolve) => {
    exec(command, { maxBuffer: Infinity }, (error, stdout, stderr) => {
      if (error) process.exitCode = 1
      console.log(error ? `${command}:\n${stdout}${stderr}` : `${command}: nothing is wrong`)
      resolve()
    })
  })
}

await Promise.all(CHECKS.map(check))
