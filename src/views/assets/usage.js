// @ts-check
/**
 * The page at /usage: shows what GET /api/usage tells the holder of a key. The key comes from the form or from the
 * fragment `#key=…`, which browsers send to no server. It is kept in a variable only.
 */

/**
 * @typedef {{ model: string, unit: string, window: string, limit: number, used: number, reserved: number,
 *   remaining: number, resetAt: number }} Limit
 * @typedef {{ label: string | null, plan: string, limits: Limit[],
 *   blocked: { model: string, reason: string | null, until: number | null }[] }} Usage
 */

const EVERY_MS = 60_000

/** @type {Record<string, string>} */
const WINDOWS = {
  minute: 'a minute',
  hour: 'an hour',
  day: 'a day',
  week: 'a week',
  month: 'a month',
}
/** @type {Record<string, string>} */
const UNITS = {
  requests: 'Requests',
  tokens: 'Tokens',
  usd: 'Dollars',
  audioSeconds: 'Seconds of audio',
  characters: 'Characters',
}
/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const SPANS = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
]
/** Seconds of audio have a fraction. */
const count = new Intl.NumberFormat('en', { maximumFractionDigits: 1 })
const dollars = new Intl.NumberFormat('en', {
  style: 'currency',
  currency: 'USD',
  maximumFractionDigits: 6,
})
const relative = new Intl.RelativeTimeFormat('en')
/** Without a time zone, this is the one of the reader. */
const clock = new Intl.DateTimeFormat('en', {
  month: 'short',
  day: 'numeric',
  hour: 'numeric',
  minute: '2-digit',
  timeZoneName: 'short',
})

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id))
const ask = byId('ask')
const field = /** @type {HTMLInputElement} */ (byId('key'))
const problem = byId('problem')
const shown = byId('shown')

let key = ''
let asked = 0
let askedAt = 0

/** @param {string} unit @param {number} amount */
const amountOf = (unit, amount) => (unit === 'usd' ? dollars.format(amount) : count.format(amount))

/** @param {number} at */
function inTime(at) {
  const left = at - Date.now()
  const [unit, ms] = SPANS.find(([, ms]) => left >= ms) ?? ['second', 1000]
  return `${relative.format(Math.max(0, Math.trunc(left / ms)), unit)} (${clock.format(at)})`
}

/** @param {string} model */
const modelName = (model) => (model === '*' ? 'All models together' : model)

/** @param {string} id */
const copyOf = (id) =>
  /** @type {HTMLElement} */ (
    /** @type {HTMLTemplateElement} */ (byId(id)).content.firstElementChild?.cloneNode(true)
  )

/** @param {Element} element @param {string} selector */
const part = (element, selector) => /** @type {HTMLElement} */ (element.querySelector(selector))

/** @param {Limit} limit */
function lineOf({ unit, window, limit, used, reserved, remaining, resetAt }) {
  const line = copyOf('of-limit')
  const share = limit > 0 ? Math.min(1, used / limit) : 1
  const held = limit > 0 ? Math.min(1 - share, reserved / limit) : 0
  if (remaining <= 0) line.classList.add('spent')
  else if (share + held >= 0.8) line.classList.add('near')
  part(line, '.what').textContent = `${UNITS[unit] ?? unit} ${WINDOWS[window] ?? window}`
  part(line, '.left').textContent =
    remaining > 0 ? `${amountOf(unit, remaining)} left` : 'Nothing left'
  part(line, '.used').style.width = `${share * 100}%`
  part(line, '.held').style.width = `${held * 100}%`
  const running = reserved > 0 ? `, ${amountOf(unit, reserved)} reserved for what runs now` : ''
  part(line, '.more').textContent =
    `${amountOf(unit, used)} of ${amountOf(unit, limit)} used${running}. Resets ${inTime(resetAt)}.`
  return line
}

/** @param {string} text @param {string} kind */
function notice(text, kind) {
  const element = document.createElement('p')
  element.className = `notice ${kind}`
  element.textContent = text
  return element
}

/** @param {Limit} limit */
const isAudio = ({ unit }) => unit === 'audioSeconds' || unit === 'characters'

/** Few use audio, so a model's limits of it are shown where it was used, or where the model has no others. @param {Limit[]} limits */
const shownOf = (limits) =>
  limits.filter((one) => !isAudio(one) || one.used + one.reserved > 0 || limits.every(isAudio))

/** @param {Usage} usage */
function show({ label, plan, blocked, limits }) {
  byId('who').textContent = `${label === null ? '' : `${label} · `}Plan: ${plan}`
  byId('blocks').replaceChildren(
    ...blocked.map(({ model, reason, until }) => {
      const what = model === '*' ? 'all models' : model
      const end = until === null ? '' : ` It ends ${inTime(until)}.`
      const why = reason === null ? '' : ` The reason: ${reason}`
      return notice(`You are blocked from ${what}.${end}${why}`, 'bad')
    }),
  )
  const cards = [...new Set(limits.map(({ model }) => model))].map((model) => {
    const card = copyOf('of-model')
    part(card, 'h2').textContent = modelName(model)
    const own = limits.filter((one) => one.model === model)
    part(card, 'ul').replaceChildren(...shownOf(own).map(lineOf))
    return card
  })
  byId('limits').replaceChildren(...(cards.length ? cards : [notice('You have no limit.', '')]))
  byId('as-of').textContent = `As of ${clock.format(Date.now())}.`
}

/** @param {string} [text] */
function tell(text) {
  problem.textContent = text ?? ''
  problem.hidden = text === undefined
}

/** @param {boolean} isAsked */
function toForm(isAsked) {
  ask.hidden = !isAsked
  shown.hidden = isAsked
}

/** Asks for the usage and shows it. An answer to an earlier key is dropped. */
async function load() {
  const of = key
  const turn = (asked += 1)
  askedAt = Date.now()
  // Other characters could not be sent in a header.
  if (!/^[\x20-\x7e]+$/.test(of))
    return refuse('A key or token has letters, digits and signs only.')
  /** @type {Response} */
  let answer
  try {
    answer = await fetch(new URL('api/usage', document.baseURI), {
      headers: { authorization: `Bearer ${of}` },
      cache: 'no-store',
      referrerPolicy: 'no-referrer',
    })
    const body = await answer.json()
    if (turn !== asked) return
    if (answer.ok) {
      const isFirst = shown.hidden
      tell()
      show(body)
      toForm(false)
      if (isFirst) shown.focus()
      return
    }
    const text = body.error?.message ?? 'The gateway gave no answer that this page knows.'
    if (answer.status < 500) refuse(text)
    else tell(text)
  } catch {
    if (turn === asked) tell('The gateway cannot be reached. Try again soon.')
  }
}

/** The key is not valid. @param {string} text */
function refuse(text) {
  key = ''
  tell(text)
  toForm(true)
  field.focus()
}

/** Takes the key out of the fragment, and the fragment out of the address and the history. */
function takeFragment() {
  const found = /^#key=(.+)$/.exec(location.hash)
  if (!found) return
  history.replaceState(null, '', location.pathname + location.search)
  try {
    key = decodeURIComponent(found[1]).trim()
  } catch {
    key = found[1]
  }
  void load()
}

ask.addEventListener('submit', (event) => {
  event.preventDefault()
  key = field.value.trim()
  field.value = ''
  void load()
})
byId('again').addEventListener('click', () => void load())
byId('other').addEventListener('click', () => {
  key = ''
  asked += 1
  tell()
  toForm(true)
  byId('limits').replaceChildren()
  byId('blocks').replaceChildren()
  field.focus()
})
addEventListener('hashchange', takeFragment)

function refreshIfOld() {
  if (key !== '' && !document.hidden && Date.now() - askedAt >= EVERY_MS) void load()
}
setInterval(refreshIfOld, 5000)
document.addEventListener('visibilitychange', refreshIfOld)

takeFragment()

// Makes this file a module, so that its names are its own.
export {}
