/** The routes of the proxy in the OpenAPI document. */
import type { ErrorCode } from '../../src/errors.ts'
import { BODY, PROVIDER, STORE, USER, JSON_TYPE, type Operation, type Paths } from './operation.ts'
import {
  chatCompletion,
  chatRequest,
  embeddings,
  embeddingsRequest,
  events,
  groqAnswer,
  groqRequest,
  modelAnswer,
  modelPath,
  modelsAnswer,
  responseAnswer,
  responsesRequest,
  speechRequest,
  transcription,
  uploadRequest,
} from './proxy-schemas.ts'
import { text, type Schema } from './words.ts'

const STREAM_TYPE = 'text/event-stream'

const METERED: ErrorCode[] = [
  ...USER,
  ...BODY,
  ...STORE,
  ...PROVIDER,
  'cost_unbounded',
  'model_not_allowed',
  'model_not_priced',
  'user_blocked',
  'insufficient_quota',
  'global_quota',
  'rate_limit_exceeded',
  'too_many_users',
]

const metered = (
  operation: Pick<Operation, 'id' | 'summary'> & {
    takes: Schema
    gives: Schema
    streams?: boolean
  },
): Operation => {
  const { takes, gives, streams = true, ...rest } = operation
  return {
    ...rest,
    tag: 'Proxy',
    who: 'user',
    body: { [JSON_TYPE]: takes },
    answers: {
      200: {
        told: 'The answer of the provider.',
        content: { [JSON_TYPE]: gives, ...(streams && { [STREAM_TYPE]: events }) },
      },
    },
    errors: METERED,
    provider: 'metered',
  }
}

const upload = (id: string, summary: string): Operation => ({
  ...metered({ id, summary, takes: uploadRequest, gives: transcription }),
  body: { 'multipart/form-data': uploadRequest },
  answers: {
    200: {
      told: 'The transcription, in the form that was asked for.',
      content: { [JSON_TYPE]: transcription, 'text/plain': text },
    },
  },
  errors: [...METERED, 'unsupported_audio'],
})

export const PROXY_PATHS: Paths = {
  '/api/groq': {
    post: {
      ...metered({
        id: 'ask',
        summary: 'Send a prompt or a chat request',
        takes: groqRequest,
        gives: groqAnswer,
      }),
      description:
        'A body with `messages` is a chat request and gets a chat answer. Its user token must be in a header.',
      who: 'user, also in the body',
    },
  },
  '/api/groq/openai/v1/chat/completions': {
    post: metered({
      id: 'createChatCompletion',
      summary: 'Chat',
      takes: chatRequest,
      gives: chatCompletion,
    }),
  },
  '/api/groq/openai/v1/responses': {
    post: metered({
      id: 'createResponse',
      summary: 'The Responses API',
      takes: responsesRequest,
      gives: responseAnswer,
    }),
  },
  '/api/groq/openai/v1/embeddings': {
    post: metered({
      id: 'createEmbeddings',
      summary: 'Embeddings',
      takes: embeddingsRequest,
      gives: embeddings,
      streams: false,
    }),
  },
  '/api/groq/openai/v1/audio/transcriptions': {
    post: upload('createTranscription', 'Transcribe audio'),
  },
  '/api/groq/openai/v1/audio/translations': {
    post: upload('createTranslation', 'Translate audio into English text'),
  },
  '/api/groq/openai/v1/audio/speech': {
    post: {
      ...metered({
        id: 'createSpeech',
        summary: 'Speak a text',
        takes: speechRequest,
        gives: text,
      }),
      answers: {
        200: { told: 'The audio of the provider, byte for byte.', content: { 'audio/wav': text } },
      },
    },
  },
  '/api/groq/openai/v1/models': {
    get: {
      id: 'listModels',
      tag: 'Proxy',
      summary: 'The models that are offered',
      who: 'user',
      answers: {
        200: {
          told: 'Those of the provider that `ALLOWED_MODELS` contains.',
          content: { [JSON_TYPE]: modelsAnswer },
        },
      },
      errors: [...USER, ...PROVIDER],
      provider: 'unmetered',
    },
  },
  '/api/groq/openai/v1/models/{id}': {
    get: {
      id: 'getModel',
      tag: 'Proxy',
      summary: 'A model of the provider',
      who: 'user',
      path: modelPath,
      answers: { 200: { told: 'What it is.', content: { [JSON_TYPE]: modelAnswer } } },
      errors: [...USER, ...PROVIDER, 'model_not_allowed'],
      provider: 'unmetered',
    },
  },
}
