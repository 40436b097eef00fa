/** How much the ledger takes of each thing, and for how long. */
import { DAY_MS, WINDOWS } from './windows.ts'

/** A settle that comes later than this after its admission changes nothing: the request is lost. */
export const LATE_SETTLE_MS = DAY_MS

/**
 * Days after which everyone's counters of an unused model expire: the longest window, and one day for late
 * settlements.
 */
export const QUOTA_DAYS =
  1 + Math.ceil(Math.max(...Object.values(WINDOWS).map(({ longest }) => longest)) / DAY_MS)

/** The number of characters of a user's id in the audit trail. */
export const AUDIT_ID_CHARS = 6

/** An event is entered at most once, and only within this time after its request was served. */
export const ENTER_MS = 7 * DAY_MS

/**
 * A user may use this many different models a day. Clients choose the names, and must not make a document grow without
 * limit.
 */
export const MODELS_PER_USER = 64

/** A user's weeks and months are counted for at most this many models. */
export const MODELS_COUNTED = 256

/** In a minute, new users are counted for at most this many networks. */
export const NETWORKS = 1000

/** A user may have this many requests running at once. */
export const RUNNING_PER_USER = 1000

/** Leases of a user that are past, and may still settle. Beyond this number the oldest are lost. */
export const PAST_LEASES = 256

/** A browser reports at most this often. The tracker does so at most once in a few seconds. */
export const SYNCS_PER_MINUTE = 20

/** The number of a user's sessions that are counted in a day; further ones are not counted. */
export const SESSIONS_PER_USER = 64

/**
 * The largest number of tokens that is accepted for one request.
 * No model comes near it, and sums of it stay exact in the JSON that Redis writes (14 digits).
 */
export const MAX_TOKENS = 1_000_000_000

/** In a day, at most this many tags are counted. The requests of further tags are counted together, as `OTHER_TAG`. */
export const TAGS_PER_DAY = 50
export const OTHER_TAG = 'other'
/** The longest audio of one request, in ms: an upload of a second a byte is shorter. */
export const MAX_AUDIO_MS = 100_000_000_000

/** A user may have this many keys. */
export const KEYS_PER_USER = 20

/** There may be this many plans. */
export const PLANS = 100

/**
 * A client that sent no maximum of completion tokens gets at least this many of each completion, or is refused: a shorter
 * answer is of little use.
 */
export const FIT_MIN_TOKENS = 256
