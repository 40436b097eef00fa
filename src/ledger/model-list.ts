/** Lists of models, in which `*` stands for any characters. */

/** Whether a name matches one of the globs. */
export const isListed = (model: string, globs: string[]): boolean =>
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
