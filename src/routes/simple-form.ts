/** The simple form of POST /api/groq: `{prompt, …}` becomes a chat request, and the answer `{content, usage, model}`. */
import type * as z from 'zod/mini'
import { ApiError } from '../errors.ts'
import type { Json, ParsedBody } from '../gateway/body-json.ts'
import { turn } from '../gateway/steps.ts'
import type { Bytes } from '../ports.ts'
import type { simpleForm } from './simple-form-schemas.ts'

/** They are built when they are first used, since most isolates see no simple form. */
const schemas = () => import('./simple-form-schemas.ts')

/** Reads the form. Throws `invalid_request`. */
export async function readSimpleForm(body: Json) {
  const { simpleForm } = await schemas()
  const form = simpleForm.safeParse(body)
  if (form.success) return form.data
  const issue = form.error.issues[0]
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
  const param = String(unknown ?? issue?.path[0] ?? 'prompt').slice(0, 64)
  const message =
    unknown === undefined
      ? `\`${param}\` is missing or has the wrong type.`
      : `\`${param}\` is not a field of the simple form; send \`messages\` for the full API.`
  throw new ApiError('invalid_request', message, { param })
}

type SimpleForm = Omit<z.infer<typeof simpleForm>, 'userToken'>

/**
 * The simple form as a chat request: its bytes, and the same parsed. `rawPrompt` is the prompt in JSON as it came. It
 * may be megabytes long, so it is not written again.
 */
export function toChat(
  { prompt, model, ...rest }: SimpleForm,
  defaultModel: string,
  rawPrompt: Bytes,
): { bytes: Bytes; body: ParsedBody } {
  const chat = (content: string) => ({
    model: model ?? defaultModel,
    messages: [{ role: 'user', content }],
    ...rest,
  })
  const frame = JSON.stringify(chat(''))
  const at = frame.indexOf('""}]')
  const [before, after] = [frame.slice(0, at), frame.slice(at + 2)].map((text) =>
    new TextEncoder().encode(text),
  ) as [Bytes, Bytes]
  const bytes = new Uint8Array(before.length + rawPrompt.length + after.length)
  bytes.set(before)
  bytes.set(rawPrompt, before.length)
  bytes.set(after, before.length + rawPrompt.length)
  const placeOf = (field: string) => frame.indexOf(':', frame.indexOf(`"${field}"`)) + 1
  return { bytes, body: { value: chat(prompt), placeOf } }
}

/** The most bytes of an answer, which is held in memory as a whole. The meter has the same limit. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024

/** The meter has just parsed the answer. For a longer answer, that was enough for one turn. */
const LONG = 64 * 1024

/** The text of a provider's answer. Throws `upstream_unreachable` if it is too large. */
export async function answerText(answer: Response): Promise<string> {
  const decoder = new TextDecoder()
  const reader = answer.body?.getReader()
  let text = ''
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined }
    if (done) {
      text += decoder.decode()
      if (text.length > LONG) await turn()
      return text
    }
    text += decoder.decode(value, { stream: true })
    if (text.length <= MAX_ANSWER_BYTES) continue
    await reader?.cancel()
    throw new ApiError('upstream_unreachable', "The model provider's answer is too large.")
  }
}

/** A chat answer as `{content, usage, model}`. Throws `upstream_unreachable` if it cannot be read. */
export async function simpleAnswer(answer: Response): Promise<Response> {
  let text: string
  let value: unknown
  try {
    text = await answerText(answer)
    value = JSON.parse(text)
  } catch (error) {
    if (error instanceof ApiError) throw error
    // No cause: the message of JSON.parse quotes the answer, and would be logged.
    throw new ApiError('upstream_unreachable', "The model provider's answer cannot be read.")
  }
  const { chatAnswer } = await schemas()
  const chat = chatAnswer.safeParse(value)
  if (!chat.success) {
    throw new ApiError('upstream_unreachable', "The model provider's answer cannot be read.")
  }
  const { choices, usage, model } = chat.data
  if (text.length > LONG) await turn()
  const headers = new Headers(answer.headers)
  headers.delete('transfer-encoding')
  headers.set('content-type', 'application/json')
  const content = choices[0]?.message.content ?? ''
  return new Response(JSON.stringify({ content, usage, model }), { status: answer.status, headers })
}
