/** `npx tsx scripts/env-example.ts` writes .env.example from the table of variables and their docs. */
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { TABLE, type Variable, type Default } from '../src/config/variables.ts'
import { DOCS } from '../src/config/variable-docs.ts'

const HEAD = [
  'Copy this file to .env or .env.local. As it stands it changes nothing, since every value is the default.',
  'An empty variable counts as not set. Whole numbers are digits only. .env.local takes precedence over .env.',
  'The file is written by `npx tsx scripts/env-example.ts`.',
]

/** The longest line, in characters. */
const WIDTH = 110

/** Sentences as lines of comments. */
function commentOf(text: string): string {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const line = lines.at(-1)
    if (line !== undefined && `${line} ${word}`.length <= WIDTH)
      lines[lines.length - 1] += ` ${word}`
    else lines.push(`# ${word}`)
  }
  return lines.join('\n')
}

function entryOf({ name, default: byDefault }: { name: Variable; default: Default }): string {
  const doc = DOCS[name]
  if (typeof byDefault === 'object') {
    const { edge, node } = byDefault
    return `${commentOf(`${doc} Not set: ${edge} on the edge, ${node} on Node.`)}\n${name}=`
  }
  // Otherwise the quotes of JSON would be read as quotes around a value.
  const value = byDefault?.includes('"') ? `'${byDefault}'` : (byDefault ?? '')
  return `${commentOf(doc)}\n${name}=${value}`
}

/** The text of .env.example. */
export const envExample = (): string =>
  `${[HEAD.map(commentOf).join('\n'), ...TABLE.map(entryOf)].join('\n\n')}\n`

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(new URL('../.env.example', import.meta.url), envExample())
}
