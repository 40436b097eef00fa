/** Turns a transcription that we asked for in full into the form that the client asked for. */
import type { Form } from './audio-body.ts'

/** What the provider answers in the form `json`; the full form has more. */
const IN_JSON = ['text', 'logprobs', 'usage', 'x_groq']

/** The answer in a form; `sent` is its text. An answer that is not a full transcription stays as it is. */
export function inForm(answer: Response, sent: string, form: Form): Response {
  const full = transcriptionIn(sent)
  const { status, statusText } = answer
  const headers = new Headers(answer.headers)
  // The whole answer is here, so it has a length.
  headers.delete('transfer-encoding')
  if (!full) return new Response(sent, { status, statusText, headers })
  if (form === 'text') {
    headers.set('content-type', 'text/plain; charset=utf-8')
    return new Response(full.text, { status, statusText, headers })
  }
  const some = Object.entries(full).filter(([name]) => IN_JSON.includes(name))
  return new Response(JSON.stringify(Object.fromEntries(some)), { status, statusText, headers })
}

function transcriptionIn(text: string): (Record<string, unknown> & { text: string }) | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const isFull = typeof value === 'object' && value !== null && 'text' in value
    if (isFull && typeof value.text === 'string') return { ...value, text: value.text }
  } catch {
    // It is not JSON.
  }
  return undefined
}
