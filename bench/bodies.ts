/** Bodies of one size that cost a server as much as possible to read, by shape. */

const HEAD = '{"model":"a/b","messages":[]'

/** As many units as fit. */
export const fill = (unit: string, room: number): string =>
  unit.repeat(Math.floor(room / unit.length))

/** The units in a random order, which is the same in each run. */
function shuffled(units: string[], room: number): string {
  const picked: string[] = []
  for (let size = 0, seed = 1; size < room;) {
    seed = Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d) + 1
    const unit = units[(seed >>> 8) % units.length] ?? ''
    size += Buffer.byteLength(unit)
    picked.push(unit)
  }
  return picked.slice(0, -1).join('')
}

/** Units that all differ. */
function sequence(unit: (n: string) => string, room: number): string {
  const units: string[] = []
  for (let n = 0, size = 0; ; n += 1) {
    const one = unit(n.toString(36))
    size += one.length
    if (size > room) return units.join('')
    units.push(one)
  }
}

const prompt = (text: string) => `{"model":"a/b","messages":[{"role":"user","content":"${text}"}]}`

/** The bodies, by name. The first is one string, with which the others are compared. */
export function bodiesOf(bytes: number): Record<string, string> {
  const room = bytes - 200
  return {
    'one text': prompt('a'.repeat(room)),
    'one text of escapes': prompt(fill('\\n', room)),
    'one text of escaped quotes': prompt(fill('\\"', room)),
    'one text outside ASCII': prompt(fill('ж', room / 2)),
    'one text of all kinds of characters': prompt(
      shuffled(['a', 'bc', 'ж', '漢', '😀', '\\n', '\\"', '\\u00e9'], room),
    ),
    'white space': `${HEAD}${' '.repeat(room)}}`,
    'short texts outside ASCII': `${HEAD},"x":["a"${`,"${'ж'.repeat(18)}"`.repeat(Math.min(98_000, room / 39))}]}`,
    'lists in lists': `${HEAD},"x":${'['.repeat(room / 2)}${']'.repeat(room / 2)}}`,
    'objects in objects': `${HEAD},"x":${fill('{"a":', room - room / 6)}0${fill('}', room / 6)}}`,
    'empty objects': `${HEAD},"x":[0${fill(',{}', room)}]}`,
    'new keys': `${HEAD},"x":{"a":0${sequence((n) => `,"_${n}":0`, room)}}}`,
    'objects of new keys': `${HEAD},"x":[0${sequence((n) => `,{"_${n}":0}`, room)}]}`,
    'keys on top': `${HEAD}${sequence((n) => `,"_${n}":0`, room)}}`,
    'one long key': `${HEAD},"${fill('a', room)}":0}`,
    numbers: `${HEAD},"x":[0${fill(',1e400', room)}]}`,
    'one long number': `${HEAD},"x":${fill('1', room)}}`,
    'texts of 250 bytes': `${HEAD},"x":["a"${fill(`,"${'a'.repeat(250)}"`, room)}]}`,
    'texts of 250 bytes outside ASCII': `${HEAD},"x":["a"${fill(`,"${'ж'.repeat(125)}"`, (room * 254) / 379)}]}`,
    'lists of 64 levels': `${HEAD},"x":[0${fill(`,${'['.repeat(60)}${']'.repeat(60)}`, Math.min(room, 95_000))}]}`,
    'escaped keys of messages': `{"model":"a/b","messages":[{"role":"user"}${fill(',{"\\u0061":0}', Math.min(room, 220_000))}]}`,
    'escaped keys of parts': `{"model":"a/b","messages":[{"role":"user","content":[0${fill(',{"\\u0061":0}', Math.min(room, 220_000))}]}]}`,
    'long keys of parts': `{"model":"a/b","messages":[{"role":"user","content":[0${fill(`,{"${'ж'.repeat(500)}":0}`, room * 0.6)}]}]}`,
    'long keys on top': `${HEAD}${sequence((n) => `,"${'ж'.repeat(495)}${n}":0`, Math.min(room * 0.6, 950_000))}}`,
    messages: `{"model":"a/b","messages":[{"role":"user","content":""}${fill(`,{"role":"user","content":"${'a'.repeat(room / 5200)}"}`, room - room / 20)}]}`,
    'texts of a message': `{"model":"a/b","messages":[{"role":"user","content":[{"type":"text"}${fill(`,{"type":"text","text":"${'a'.repeat(300)}"}`, room)}]}]}`,
    'one image': `{"model":"a/b","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,${fill('iVBORw0K', room)}"}}]}]}`,
    images: `{"model":"a/b","messages":[{"role":"user","content":[{"type":"text","text":""}${fill(`,{"type":"image_url","image_url":{"url":"data:image/png;base64,${'iVBORw0K'.repeat(32)}"}}`, room)}]}]}`,
    tools: `${HEAD},"tools":[${fill(`{"type":"function","function":{"name":"f","description":"${'a'.repeat(300)}","parameters":{"type":"object","properties":{"a":{"type":"string"}}}}},`, room)}{"type":"function"}]}`,
    'tools of short texts outside ASCII': `${HEAD},"tools":[{"type":"function","x":["a"${`,"${'ж'.repeat(18)}"`.repeat(Math.min(98_000, room / 39))}]}]}`,
    'tool calls of escapes': `{"model":"a/b","messages":[{"role":"user","tool_calls":[""${fill(`,"${'\\n'.repeat(45)}"`, Math.min(room, 4e6))}]}]}`,
    'white space everywhere': `${HEAD},"x":[0${fill(' , 0     ', Math.min(room, 800_000))}]}`,
    'an end that is missing': prompt('a'.repeat(room)).slice(0, -1),
    'a byte that is no UTF-8': prompt(`${'ж'.repeat(room / 2)}\ud800`),
    'a key that is there twice': `${HEAD},"x":["a"${`,"${'ж'.repeat(18)}"`.repeat(Math.min(98_000, room / 39))}],"model":"a/b"}`,
    'parts of a message': `{"model":"a/b","messages":[{"role":"user","content":[0${fill(',{"type":""}', room)}]}]}`,
  }
}
