/** Schemas of the proxy: errors, requests, and the fields that are read from the provider's answers. */
import { CODES, type ErrorCode } from '../../src/errors.ts'
import { named, say, sayOf, count, model, type Schema } from './words.ts'
import * as z from 'zod/mini'
import { MAX_MESSAGES } from '../../src/gateway/body.ts'
import { simpleForm } from '../../src/routes/simple-form-schemas.ts'
import { MODEL_NAME } from '../../src/metering/models.ts'
import { MODEL_PATH } from '../../src/providers/groq.ts'

// Errors.

const types = [...new Set(Object.values(CODES).map(([, type]) => type))]

named(
  'Error',
  z.object({
    error: z.object({
      message: say(z.string(), 'What is wrong and how to correct it, for people to read.'),
      type: z.enum(types),
      code: z.enum(Object.keys(CODES) as ErrorCode[]),
      param: z.optional(say(z.string(), 'The wrong field or header.')),
      id: say(z.string(), 'The id of the request, as in `x-weir-id`.'),
      help: z.optional(say(z.string(), 'Where callers find help, as in `HELP_URL`.')),
    }),
  }),
  'The form of all errors of the gateway.',
)

export const providerError = named(
  'ProviderError',
  z.looseObject({ error: z.looseObject({ message: z.string() }) }),
  'An error of the provider, byte for byte.',
)

// The proxy.

const positive = (description: string) =>
  say(z.optional(z.nullable(z.int().check(z.positive()))), description)
const MAXIMUM = 'The completion maximum. It is part of the reservation.'
const STREAM = 'Answer with server-sent events.'
const stream = () => say(z.optional(z.nullable(z.boolean())), STREAM)
const list = () => z.array(z.unknown()).check(z.maxLength(MAX_MESSAGES))

named('SimpleForm', simpleForm, 'A prompt, and some of the parameters of the provider.')
sayOf(simpleForm, {
  prompt: 'What the user says.',
  model: {
    description: 'If it is missing, the default model is used.',
    pattern: MODEL_NAME.source,
  },
  max_tokens: MAXIMUM,
  userToken: 'The user token, if no header has it.',
})

const simpleAnswer = named(
  'SimpleAnswer',
  z.object({
    content: z.string(),
    usage: z.optional(
      z.object({ prompt_tokens: count(), completion_tokens: count(), total_tokens: count() }),
    ),
    model: z.string(),
  }),
)

export const chatRequest = named(
  'ChatRequest',
  z.looseObject({
    model: model(),
    messages: list(),
    stream: stream(),
    n: positive('How many choices.'),
    max_completion_tokens: positive(MAXIMUM),
    max_tokens: positive(
      'The older name of the same field. If both are set, the larger one counts.',
    ),
  }),
  'The fields of a chat request that the gateway reads. The provider gets the whole body unchanged.',
)

export const groqRequest = named('GroqRequest', z.union([simpleForm, chatRequest]))

export const responsesRequest = named(
  'ResponsesRequest',
  z.looseObject({
    model: model(),
    input: z.optional(z.union([z.string(), list()])),
    stream: stream(),
    max_output_tokens: positive(MAXIMUM),
  }),
  'The fields of a Responses request that the gateway reads. The provider gets the whole body unchanged.',
)

export const embeddingsRequest = named(
  'EmbeddingsRequest',
  z.looseObject({ model: model(), input: z.union([z.string(), z.array(z.unknown())]) }),
  'The fields of an embeddings request that the gateway reads. The provider gets the whole body unchanged.',
)

export const uploadRequest = named(
  'AudioUpload',
  z.looseObject({
    file: say(z.string(), 'The audio, under a file name with the extension of its format.'),
    model: model(),
    response_format: z.optional(
      say(
        z.string(),
        'Where it is `json`, `text` or left out, the provider is asked for `verbose_json`, and the answer is put in the form that was asked for.',
      ),
    ),
  }),
  'The fields of an upload that the gateway reads. The provider gets the whole body unchanged, but for `response_format`.',
)

export const speechRequest = named(
  'SpeechRequest',
  z.looseObject({
    model: model(),
    input: say(z.string().check(z.minLength(1)), 'The text to speak.'),
  }),
  'The fields of a speech request that the gateway reads. The provider gets the whole body unchanged.',
)

/** The provider's answers are passed on unchanged, so only the fields that clients rely on are described. */
const provided = (id: string, fields: Record<string, Schema>) =>
  named(id, z.looseObject(fields), 'An answer of the provider, byte for byte.')

export const chatCompletion = provided('ChatCompletion', {
  model: z.string(),
  choices: z.array(z.looseObject({})),
  usage: z.optional(z.looseObject({})),
})
export const groqAnswer = named('GroqAnswer', z.union([simpleAnswer, chatCompletion]))
export const responseAnswer = provided('Response', {
  model: z.string(),
  output: z.array(z.unknown()),
})
export const embeddings = provided('Embeddings', { data: z.array(z.looseObject({})) })
export const transcription = provided('Transcription', { text: z.string() })
export const modelAnswer = provided('Model', { id: z.string() })
export const modelsAnswer = provided('Models', { data: z.array(modelAnswer) })
export const events = named(
  'ServerSentEvents',
  z.string(),
  'The events of the provider, byte for byte, including `data: [DONE]`.',
)

/** The decoded name is validated; in a path it is encoded. */
export const modelPath = z.object({
  id: say(
    z.string().check(z.regex(MODEL_PATH)),
    'The name of a model, without `..`; a slash in it may be written `%2F`.',
  ),
})
