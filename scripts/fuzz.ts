/**
 * `npm run fuzz`: a million random inputs for everything that reads what somebody else wrote; ends with 1 if any input
 * is a finding. `-- --inputs 10000` sets another number, `--seed 7` makes other inputs, `--only body` takes one target.
 * The seed that a finding names, with `--inputs 1`, gives the same input again.
 */
import { parseArgs } from 'node:util'
import { fuzz } from '../test/support/fuzz.ts'

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
    only: { type: 'string' },
  },
})
const [inputs, seed] = [Number(values.inputs), Number(values.seed)]
if (!(Number.isSafeInteger(inputs) && inputs > 0 && Number.isSafeInteger(seed) && seed >= 0)) {
  console.error('--inputs and --seed must be whole numbers')
  process.exit(2)
}

console.log(`seed ${seed}, ${inputs} inputs`)
const started = performance.now()
const onProgress = (line: string) => console.log(line)
const { fed, findings } = await fuzz({ inputs, seed, only: values.only, onProgress })
for (const { target, seed, error, input } of findings) {
  console.log(
    `\nFOUND by --only ${target} --seed ${seed} --inputs 1: ${String(error)}\n${input.slice(0, 2000)}`,
  )
}
const seconds = Math.round((performance.now() - started) / 1000)
console.log(`\n${fed} inputs in ${seconds} s, ${findings.length} findings`)
process.exit(findings.length ? 1 : 0)
