/** What needs a look, at the top of the overview. */
import type { Child } from 'hono/jsx'
import type { Look } from '../reports/look.ts'
import { whyRefused } from './codes.tsx'
import { counted, exact, many, percent } from './format.ts'
import { ALL, requestsPath } from './requests.tsx'
import { amountOf, limitBar, modelName, name, num, scope, tag, time, userLink } from './parts.tsx'

/** The most lines of each kind. */
const MOST = 5

type LookProps = {
  /** Limits, users near a limit and models that fail: a refresh has them. */
  now: Look[]
  /** Refused and blocked users, which only a whole page has. */
  more: Look[] | undefined
  /** Blocked users there are, at least. */
  blocked: number
}

export const lookCard = ({ now: looks, more, blocked }: LookProps, at: number) => (
  <section class="card look" aria-labelledby="look-title" id="look">
    <div class="top">
      <h2 id="look-title">Needs a look</h2>
    </div>
    <div id="look-now" data-live>
      {lines(looks, at)}
    </div>
    {more && (
      <div id="look-more" data-live>
        {lines(more, at)}
        {blocked > MOST && (
          <p class="all">
            <a href="/admin/users?shown=blocked">All blocked users</a>
          </p>
        )}
      </div>
    )}
    {/* A refresh has only the first list: the style sheet hides this beside a line of any list. */}
    <p class="fine">Nothing needs a look.</p>
  </section>
)

/** At most `MOST` of each kind. */
function lines(looks: Look[], at: number) {
  const kinds = new Map<string, number>()
  const shown = looks.filter(({ kind }) => {
    const before = kinds.get(kind) ?? 0
    kinds.set(kind, before + 1)
    return before < MOST
  })
  return (
    shown.length > 0 && (
      <ul>
        {shown.map((look) => (
          <li class={look.kind}>{lineOf(look, at)}</li>
        ))}
      </ul>
    )
  )
}

/** Who it is about. The style sheet cuts a long label, so that there is room for the rest. */
const whom = (id: string, label: string | undefined) => (
  <span class="whom">{userLink(id, label)}</span>
)

function lineOf(look: Look, at: number): Child {
  switch (look.kind) {
    case 'limit': {
      const { unit, window, used, limit } = look.use
      return (
        <>
          {tag(percent(look.share), look.share >= 1 ? 'bad' : '')}
          <span>
            <b>Everyone</b>: {counted(unit, window).toLowerCase()}, {amountOf(unit, used)} of{' '}
            {amountOf(unit, limit)}
          </span>
        </>
      )
    }
    case 'near': {
      const { user, share } = look
      return (
        <>
          {tag(percent(share), share >= 1 ? 'bad' : '')}
          <span>
            {whom(user.id, user.label)} has used this much of the limit of{' '}
            {scope(user.nearest?.model ?? '*')}
          </span>
          {limitBar(share, 'Used share of the limit')}
        </>
      )
    }
    case 'failing':
      return (
        <>
          {tag('failing', 'bad')}
          <span>
            <a href={requestsPath({ ...ALL, model: look.model, outcome: 'failed' })}>
              {name(modelName(look.model))}
            </a>
            : {exact(look.failed)} of the last {many(look.requests, 'request')} failed, most with{' '}
            {look.status}
          </span>
        </>
      )
    case 'refused':
      return (
        <>
          {tag('refused', '')}
          <span>
            {whom(look.user, look.label)}: {whyRefused(look.code)}, {time(look.at, at)}
            {look.times > 1 && [', at least ', num(look.times), ' times today']}
          </span>
        </>
      )
    case 'blocked': {
      const { model, reason, until } = look.block
      return (
        <>
          {tag('blocked', 'bad')}
          <span>
            {whom(look.user, look.label)} from {scope(model)},{' '}
            {until ? ['ends ', time(until, at)] : 'no end'}
            {reason && [': ', name(reason)]}
          </span>
        </>
      )
    }
  }
}
