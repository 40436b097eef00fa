// @ts-check
/**
 * The banner of tracker.js: it says why a user cannot call, and from when on they can.
 *
 * It sticks to the top of the page, or is in the element of `slot` (a selector). The user can close it; it comes back
 * when there is something else to say. Pages style it with --weir-banner-background, --weir-banner-color or the class
 * weir-banner.
 */

/** A time of today, or a day and a time. */
const at = (time) => {
  const when = new Date(time)
  const isToday = when.toDateString() === new Date().toDateString()
  return when.toLocaleString([], { timeStyle: 'short', ...(!isToday && { dateStyle: 'medium' }) })
}

/** @param {{ model: string, reason?: string, until?: number | null, message?: string }} block */
const blockText = ({ model, reason, until, message }) =>
  message ??
  `You can't use ${model === '*' ? 'the assistant' : model}${until ? ` until ${at(until)}` : ' until you are unblocked'}.` +
    (reason ? ` Reason: ${reason}` : '')

/** @param {{ model: string, resetAt: number }} spent */
const spentText = ({ model, resetAt }) =>
  `Today's tokens of ${model} are used up. New ones come at ${at(resetAt)}.`

/** @param {string | boolean} slot @param {string} [help] */
export const createBanner = (slot, help) => {
  const box = document.createElement('div')
  const words = document.createElement('span')
  const close = document.createElement('button')
  let closed = ''

  box.className = 'weir-banner'
  box.style.cssText =
    'display:flex;gap:1em;align-items:center;padding:.8em 1em;' +
    'background:var(--weir-banner-background,#911);color:var(--weir-banner-color,#fff);top:0;z-index:2147483647'
  words.role = 'alert'
  words.style.flex = '1'
  close.type = 'button'
  close.ariaLabel = 'Close'
  close.textContent = '×'
  close.style.cssText = 'all:unset;cursor:pointer;padding:0 .5em;font-size:1.4em'
  close.addEventListener('focus', () => (close.style.outline = '2px solid'))
  close.addEventListener('blur', () => (close.style.outline = ''))
  close.addEventListener('click', () => {
    closed = words.textContent ?? ''
    box.remove()
  })
  box.append(words)
  if (help) {
    const link = document.createElement('a')
    link.href = help
    link.textContent = 'Help'
    link.style.color = 'inherit'
    box.append(link)
  }
  box.append(close)

  /** Shows these blocks and spent quotas, or nothing. */
  return (blocked = [], spent = []) => {
    const text = [...blocked.map(blockText), ...spent.map(spentText)].join(' ')
    if (text !== words.textContent) words.textContent = text
    if (text !== closed) closed = ''
    if (!text || closed) return box.remove()
    if (box.isConnected) return
    const place = typeof slot === 'string' && slot ? document.querySelector(slot) : undefined
    box.style.position = place ? '' : 'sticky'
    if (place) place.append(box)
    else document.body.prepend(box)
  }
}
