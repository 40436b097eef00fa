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
/** A refresh leaves out what is dear to read. After so many, the whole page is read. */
const WHOLE_AFTER = 24

const PAUSED = 'weir-paused'

const indicator = /** @type {HTMLElement} */ (document.getElementById('live'))
const said = /** @type {HTMLElement} */ (indicator.querySelector('[role=status]'))
const updated = /** @type {HTMLTimeElement} */ (indicator.querySelector('time'))
const pause = /** @type {HTMLButtonElement} */ (document.getElementById('pause'))
/** This page is not refreshed, and so does not say that it is live. */
const isStill = indicator.dataset.still !== undefined
/** How often this page refreshes. */
const often = Number(indicator.dataset.every) || EVERY_MS
/** Milliseconds that the server's clock is ahead of this one. */
const ahead = Date.parse(updated.dateTime) - Date.now()

/** @type {'live' | 'away'} */
let health = healthIn(document)
let etag = ''
let changedAt = Date.now()
let refreshes = 0
let failures = 0
let isPaused = sessionStorage.getItem(PAUSED) !== null
/** @type {number | undefined} */
let timer

const UNITS = /** @type {const} */ ([
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
])
const relative = new Intl.RelativeTimeFormat('en-US', { numeric: 'auto', style: 'narrow' })
const clock = new Intl.DateTimeFormat('en-US', {
  ...{ month: 'short', day: 'numeric', hourCycle: 'h23' },
  ...{ hour: '2-digit', minute: '2-digit', second: '2-digit' },
})
/** Such as `UTC+2`. */
const zone = new Intl.DateTimeFormat('en-US', { timeZoneName: 'shortOffset' })
  .format()
  .replace(/.* GMT(\+0$)?/, 'UTC')

/** Updates relative times, by the rule of src/views/format.ts, and writes moments in the time of the admin. */
function tellTimes() {
  for (const time of document.querySelectorAll('time')) {
    const at = Date.parse(time.dateTime)
    const passed = at - Date.now() - ahead
    const [unit, ms] = UNITS.find(([, ms]) => Math.abs(passed) >= ms) ?? UNITS[3]
    const isClock = time.dataset.clock !== undefined
    const text = isClock ? clock.format(at) : relative.format(Math.trunc(passed / ms), unit)
    if (time.textContent !== text) time.textContent = text
    const title = `${clock.format(at)} · ${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`
    if (time.title !== title) time.title = title
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
    // Times are written here.
    if (fresh instanceof HTMLTimeElement && name === 'title') continue
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
  const isWhole = refreshes % WHOLE_AFTER === WHOLE_AFTER - 1
  /** @type {Record<string, string>} */
  const headers = isWhole ? {} : { 'x-weir-live': '1', 'if-none-match': etag }
  const signal = AbortSignal.timeout(LONGEST_MS)
  const answer = await fetch(location.href, { headers, signal, cache: 'no-store' })
  if (answer.status === 401 || answer.status === 404) return location.reload()
  if (!answer.ok && answer.status !== 304) throw new Error('not updated', { cause: answer.status })
  refreshes += 1
  updated.dateTime = new Date(Date.now() + ahead).toISOString()
  if (answer.status === 304) return
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html')
  health = healthIn(fresh)
  const focused = document.activeElement
  for (const part of fresh.querySelectorAll('[data-live]')) {
    const old = document.getElementById(part.id)
    // A menu that is open stays as it is.
    if (old && !old.querySelector(':popover-open')) morph(old, part)
  }
  prepare()
  // A moved row loses the focus.
  if (focused instanceof HTMLElement && focused.isConnected) focused.focus({ preventScroll: true })
  if (!isWhole) etag = answer.headers.get('etag') ?? ''
  changedAt = Date.now()
}

async function turn() {
  clearTimeout(timer)
  timer = undefined
  if (isStill) return
  if (document.hidden || isPaused) return tell('paused')
  try {
    await refresh()
    failures = 0
    tell(health)
  } catch (error) {
    failures += 1
    tell(error instanceof Error && error.cause === 503 ? 'away' : 'offline')
  }
  tellTimes()
  plan()
}

function plan() {
  const every = Math.max(often, Date.now() - changedAt > QUIET_MS ? EVERY_QUIET_MS : EVERY_MS)
  timer = setTimeout(turn, Math.min(every * 2 ** failures, Math.max(every, LONGEST_MS)))
}

/** Shows what only works with this script, and names the time zone in which moments are written. */
function prepare() {
  for (const place of document.querySelectorAll('[data-zone]')) place.textContent = zone
  for (const button of document.querySelectorAll('[data-copy]')) button.removeAttribute('hidden')
}

/** Shows the numbers of a bar beside it while the pointer is on it. */
document.addEventListener('pointerover', ({ target }) => {
  if (!(target instanceof Element)) return
  for (const tip of document.querySelectorAll('figcaption')) {
    const figure = tip.parentElement
    const bar = figure?.contains(target) ? target.closest('.bar') : null
    const text = bar?.querySelector('title')?.textContent ?? ''
    tip.hidden = text === ''
    if (!bar || !figure) continue
    if (tip.textContent !== text) tip.textContent = text
    const [around, at] = [figure.getBoundingClientRect(), bar.getBoundingClientRect()]
    const [before, after] = [at.left - around.left - tip.offsetWidth, at.right - around.left]
    tip.style.left = `${after + tip.offsetWidth > around.width ? Math.max(0, before) : after}px`
  }
})

document.addEventListener('click', async ({ target }) => {
  const button = target instanceof Element ? target.closest('[data-copy]') : null
  if (!(button instanceof HTMLElement)) return
  const words = button.textContent
  try {
    await navigator.clipboard.writeText(button.dataset.copy ?? '')
    button.textContent = 'Copied'
  } catch {
    button.textContent = 'Not copied'
  }
  setTimeout(() => {
    button.textContent = words
  }, 1500)
})

pause.addEventListener('click', () => {
  isPaused = !isPaused
  if (isPaused) sessionStorage.setItem(PAUSED, '1')
  else sessionStorage.removeItem(PAUSED)
  showPause()
  void turn()
})
function showPause() {
  pause.textContent = isPaused ? 'Resume' : 'Pause'
}

/** A slash leads to the search, where it is not typed. */
document.addEventListener('keydown', (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event
  const isTyped = target instanceof Element && target.closest('input, textarea, select')
  if (key !== '/' || isTyped || ctrlKey || metaKey || altKey) return
  event.preventDefault()
  for (const search of document.getElementsByName('q')) search.focus()
})

// The result of a form is told once: a reload does not tell it again.
const address = new URL(location.href)
if (address.searchParams.has('done')) {
  address.searchParams.delete('done')
  address.searchParams.delete('who')
  history.replaceState(null, '', address)
}

document.addEventListener('visibilitychange', turn)
addEventListener('online', turn)
setInterval(tellTimes, 1000)
// On a phone the names of the pages scroll.
const page = document.querySelector('.pages-of [aria-current]')
page?.scrollIntoView({ block: 'nearest', inline: 'center' })
indicator.hidden = pause.hidden = isStill
prepare()
showPause()
tellTimes()
tell(isPaused ? 'paused' : health)
if (!isPaused && !isStill) plan()
