/** Common parts of pages: numbers, times, names, notices and cards. */
import type { Child } from 'hono/jsx'
import { amountTo } from '../ledger/policy.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import type { Unit } from '../ledger/units.ts'
import { ago, clockText, exact, exactUsd, percent, short, usd, utc } from './format.ts'

/** The most characters of a name that are shown, since names and reasons come from users. */
export const NAME_CHARS = 300

/** A text. If it is shortened, the whole one is shown on hover. */
export const shortened = (text: string, long: string) =>
  text === long ? text : <span title={long}>{text}</span>

export const num = (amount: number) => shortened(short(amount), exact(amount))

/** Nano-USD. */
export const money = (nano: number) => shortened(usd(nano), exactUsd(nano))

/** A cost in nano-USD, if it is known. */
export const costText = (cost: number | undefined) =>
  cost === undefined ? <span title="Not known: there was no price">–</span> : money(cost)

/** An amount of a unit. */
export const amountOf = (unit: Unit, amount: number) =>
  unit === 'usd' ? money(amount) : num(amountTo(unit, amount))

/** Audio: seconds that were transcribed, and characters that were spoken. */
export type Audio = { audioMs?: number; characters?: number }

/** Audio in words; nothing if there is none. */
export const audioText = ({ audioMs = 0, characters = 0 }: Audio) =>
  (audioMs > 0 || characters > 0) && (
    <>
      {audioMs > 0 && [amountOf('audioSeconds', audioMs), ' s']}
      {audioMs > 0 && characters > 0 && ', '}
      {characters > 0 && [num(characters), ' characters']}
    </>
  )

/** The same for a title, not shortened. */
export const plainAudio = ({ audioMs = 0, characters = 0 }: Audio): string =>
  [
    ...(audioMs > 0 ? [`${exact(amountTo('audioSeconds', audioMs))} s`] : []),
    ...(characters > 0 ? [`${exact(characters)} characters`] : []),
  ].join(', ')

/** Under an amount that was used: what is reserved beside it for requests that have not ended. */
export const heldText = (unit: Unit, reserved: number, running: number) =>
  reserved > 0 && (
    <small class="held">
      {amountOf(unit, reserved)} reserved by{' '}
      {running > 1 ? `${exact(running)} running requests` : '1 running request'}
    </small>
  )

/** A time relative to now, with the exact time on hover. */
export const time = (at: number, now: number) => (
  <time datetime={new Date(at).toISOString()} title={utc(at)}>
    {ago(at, now)}
  </time>
)

/**
 * Text from users or admins. Its writing direction does not affect the text around it, and the style sheet truncates
 * it.
 */
export const name = (text: string, most = NAME_CHARS) => {
  const shown = text.length > most ? `${text.slice(0, most)}…` : text
  return <bdi title={shown}>{shown}</bdi>
}

/** The name of a model in blocks and limits. */
export const modelName = (model: string) =>
  model === ALL_MODELS ? 'all models' : model.slice(0, NAME_CHARS)

export const scope = (model: string) => name(modelName(model))

/** A code or the name of a variable. A line may break after each of its words. */
export const code = (text: string) => (
  <code>{text.split(/(?<=[_.])/).map((part, at) => (at > 0 ? [<wbr />, part] : part))}</code>
)

/** A link to a user: the label, if there is one, or the id. */
export const userLink = (id: string, label?: string) => (
  <a class={label ? 'label' : 'id'} href={`/admin/users/${id}`}>
    {label ? name(label) : id}
  </a>
)

/** A moment, in UTC, which assets/admin.js writes in the time zone of the admin. `zone` stands by it. */
export const clock = (at: number) => (
  <time datetime={new Date(at).toISOString()} title={utc(at)} data-clock>
    {clockText(at)}
  </time>
)

/** The time zone of `clock`: UTC, which assets/admin.js replaces by that of the admin. */
const zone = () => <span data-zone>UTC</span>

/** The heading of a column of moments. */
export const whenHead = () => ({ content: ['When (', zone(), ')'] })

/** A moment in a sentence. */
export const moment = (at: number) => (
  <>
    {clock(at)} {zone()}
  </>
)

/** A count of a table, which shows a 0 as a dash and leaves a column of them out. */
export const count = (amount: number) => amount && num(amount)

export const tag = (text: string, kind: string, title?: string) => (
  <span class={`tag ${kind}`} title={title}>
    {text}
  </span>
)

/** That a user is blocked: from all models, or from how many. */
export function blockedTag(models: string[]) {
  const many = models.length === 1 ? '1 model' : `${models.length} models`
  const text = models.includes(ALL_MODELS) ? 'blocked' : `blocked: ${many}`
  return tag(text, 'bad', models.map(modelName).join(', ').slice(0, NAME_CHARS))
}

/** A bar for a share from 0 to 1, with a label for screen readers. */
export const limitBar = (share: number, label: string) => (
  <meter value={Math.min(1, share).toFixed(3)} high={0.8} optimum={0} aria-label={label}>
    {percent(share)}
  </meter>
)

/** A message about a success, or with `bad` about a failure. */
export const Notice = ({ children, bad }: { children?: Child; bad?: boolean }) => (
  <p class={`notice ${bad ? 'bad' : ''}`} role="status">
    {children}
  </p>
)

/** A part of a page under a heading. A refresh updates `live` parts. */
export const Card = (props: {
  id: string
  title: Child
  side?: Child
  live?: true
  children?: Child
}) => (
  <section id={props.id} class="card" data-live={props.live} aria-labelledby={`${props.id}-title`}>
    <div class="top">
      <h2 id={`${props.id}-title`}>{props.title}</h2>
      {props.side}
    </div>
    {props.children}
  </section>
)
