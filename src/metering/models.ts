/** Names of models, and which of them are offered. */
import { ALL_MODELS } from '../ledger/shapes.ts'

/**
 * A model name becomes part of keys and log lines. LoRA models have colons in theirs, as in ft:BASE:ORG/NAME:
 * https://console.groq.com/docs/lora
 */
export const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/

/** Whether a text names one model, or all of them. */
export const isScope = (name: string): boolean => name === ALL_MODELS || MODEL_NAME.test(name)

/** Whether a name matches one of the globs, in which `*` stands for any characters. */
export const isOffered = (model: string, globs: string[]): boolean =>
  globs.some((glob) => matches(glob, model))

function matches(glob: string, name: string): boolean {
  const [head = '', ...rest] = glob.split('*')
  const tail = rest.pop()
  if (tail === undefined) return glob === name
  if (!name.startsWith(head) || name.length < head.length + tail.length) return false
  if (!name.endsWith(tail)) return false
  let from = head.length
  for (const part of rest) {
    const at = name.indexOf(part, from)
    if (at < 0) return false
    from = at + part.length
  }
  return from <= name.length - tail.length
}
