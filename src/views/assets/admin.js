// @ts-check
/**
 * Keeps an admin page up to date. The page also works without it. The server renders every part again, and only the
 * changed nodes are replaced, so that focus, selection, scroll position and open details stay as they are.
 */

const EVERY_MS = 5000
/** After this time without a change, refreshes become less frequent. */
const QUIET_MS = 5 * 60_000
const EVERY_QUIET_MS = 30_000
const LONGEST_MS = 60_000

const indicator = /** @type {HTMLElement} */ (document.getElementById('live'))
const said = /** @type {HTMLElement} */ (indicator.querySelector('[role=status]'))
const updated = /** @type {HTMLTimeElement} */ (indicator.querySelector('time'))
/** Milliseconds that the server's clock is ahead of this one. */
const ahead = Date.parse(updated.dateTime) - Date.now()

/** @type {'live' | 'away'} */
let health = healthIn(document)
let etag = ''
let changedAt = Date.now()
let failures = 0
/** @type {number | undefined} */
let timer

const UNITS = /** @type {const} */ ([
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
])
const relative = new Intl.RelativeTimeFormat('en-US', { numeric: 'auto', style: 'narrow' })

/** Updates relative times, by the rule of src/views/format.ts. */
function tellTimes() {
  for (const time of document.querySelectorAll('time')) {
    const passed = Date.parse(time.dateTime) - Date.now() - ahead
    const [unit, ms] = UNITS.find(([, ms]) => Math.abs(passed) >= ms) ?? UNITS[3]
    const text = relative.format(Math.trunc(passed / ms), unit)
    if (time.textContent !== text) time.textContent = text
  }
}

/**
 * What the server said of its database.
 * @param {Document} page
 * @returns {'live' | 'away'}
 */
function healthIn(page) {
  return page.getElementById('live')?.dataset.health === 'away' ? 'away' : 'live'
}

/**
 * Screen readers announce a changed text, so the text changes only with the state.
 * @param {'live' | 'away' | 'offline' | 'paused'} state
 */
function tell(state) {
  const words = { live: 'Live', away: 'Database down', offline: 'Offline', paused: 'Paused' }[state]
  indicator.dataset.state = state
  if (said.textContent !== words) said.textContent = words
}

/**
 * Makes an element equal to another one of the same kind. Children are matched by their keys.
 * @param {Element} old
 * @param {Element} fresh
 */
function morph(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name)
  }
  const keyed = new Map()
  for (const child of old.children) {
    const key = keyOf(child)
    if (key) keyed.set(key, child)
  }
  let place = old.firstChild
  for (const node of [...fresh.childNodes]) {
    const key = keyOf(node)
    const known = key
      ? keyed.get(key)
      : place && !keyOf(place) && place.nodeName === node.nodeName
        ? place
        : undefined
    if (!known) {
      if (key && keyed.size && node instanceof HTMLElement) node.classList.add('new')
      old.insertBefore(node, place)
      continue
    }
    if (known === place) place = known.nextSibling
    else old.insertBefore(known, place)
    if (known instanceof Element && node instanceof Element) morph(known, node)
    else if (known.data !== /** @type {Text} */ (node).data)
      known.data = /** @type {Text} */ (node).data
  }
  while (place) {
    const next = place.nextSibling
    place.remove()
    place = next
  }
}

/** @param {Node} node */
const keyOf = (node) => (node instanceof HTMLElement ? node.dataset.key : undefined)

async function refresh() {
  const headers = { 'x-weir-live': '1', 'if-none-match': etag }
  const signal = AbortSignal.timeout(LONGEST_MS)
  const answer = await fetch(location.href, { headers, signal, cache: 'no-store' })
  if (answer.status === 401 || answer.status === 404) return location.reload()
  if (!answer.ok && answer.status !== 304) throw new Error('not updated', { cause: answer.status })
  updated.dateTime = updated.title = new Date(Date.now() + ahead).toISOString()
  if (answer.status === 304) return
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html')
  health = healthIn(fresh)
  const focused = document.activeElement
  for (const part of fresh.querySelectorAll('[data-live]')) {
    const old = document.getElementById(part.id)
    if (old) morph(old, part)
  }
  // A moved row loses the focus.
  if (focused instanceof HTMLElement && focused.isConnected) focused.focus({ preventScroll: true })
  etag = answer.headers.get('etag') ?? ''
  changedAt = Date.now()
}

async function turn() {
  clearTimeout(timer)
  timer = undefined
  if (document.hidden) return tell('paused')
  try {
    await refresh()
    failures = 0
    tell(health)
  } catch (error) {
    failures += 1
    tell(error instanceof Error && error.cause === 503 ? 'away' : 'offline')
  }
  tellTimes()
  const every = Date.now() - changedAt > QUIET_MS ? EVERY_QUIET_MS : EVERY_MS
  timer = setTimeout(turn, Math.min(every * 2 ** failures, Math.max(every, LONGEST_MS)))
}

/** Shows the numbers of a bar beside the chart when the pointer is on it. */
document.addEventListener('pointerover', ({ target }) => {
  if (!(target instanceof Element)) return
  for (const caption of document.querySelectorAll('figcaption')) {
    const bar = caption.parentElement?.contains(target) ? target.closest('g') : null
    caption.textContent = bar?.querySelector('title')?.textContent ?? ''
  }
})
document.addEventListener('visibilitychange', turn)
addEventListener('online', turn)
setInterval(tellTimes, 1000)
indicator.hidden = false
tell(health)
timer = setTimeout(turn, EVERY_MS)
