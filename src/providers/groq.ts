/** All that is specific to Groq: its address, its paths and its headers. */
import type { AudioRoute, MeteredRoute } from '../metering/reservation.ts'

/** The address of Groq's API; its OpenAI-compatible part begins at `/openai/v1`. */
export const GROQ_URL = 'https://api.groq.com'

/** The model for a request in the simple form that names none. */
export const DEFAULT_MODEL = 'openai/gpt-oss-20b'

/** The paths whose answers report their usage: https://console.groq.com/docs/api-reference */
export const METERED: MeteredRoute[] = ['chat/completions', 'responses', 'embeddings']

/** The paths to which audio is uploaded. */
export const UPLOADS: Exclude<AudioRoute, 'audio/speech'>[] = [
  'audio/transcriptions',
  'audio/translations',
]

/** Paths of Groq that are refused, because nothing in their answers can be metered. */
export const UNMETERED = ['batches', 'files', 'fine_tuning', 'images', 'reranking']

/** The part of a models path that names one model, decoded. */
export const MODEL_PATH = /^[A-Za-z0-9._:/-]{1,256}$/

/** Names and name prefixes of the client's headers that may go upstream. Those of other vendors are not among them. */
export const HEADERS_UP = new Set(['accept', 'user-agent'])
export const PREFIXES_UP = ['x-stainless-', 'groq-', 'x-groq-']

/**
 * The code of a refusal because the organisation's own limit of spending is reached: https://console.groq.com/docs/spend-limits
 */
export const SPEND_BLOCKED = 'blocked_api_access'
