/** What each tag costs: the table of the overview. */
import type { Range } from '../reports/range.ts'
import type { TagStats } from '../reports/tags.ts'
import { OTHER_TAG } from '../ledger/capacity.ts'
import { nanoFrom } from '../ledger/money.ts'
import { many } from './format.ts'
import { Card, money, name, num } from './parts.tsx'
import { ALL, requestsPath } from './requests.tsx'
import { table, type Column } from './table.tsx'

const OF_TODAY: Column<TagStats>[] = [
  ['Tokens today', 'n w', ({ tokensUsedDay }) => num(tokensUsedDay)],
  ['Cost today', 'n', ({ costUsd }) => money(nanoFrom(costUsd))],
]

/** Tags are counted by whole days. */
const daysOf = (range: Range['name'], dates: string[]) =>
  range === '24h' ? 'all of today and yesterday' : many(dates.length, 'day')

/** Nothing without tags. */
export const tagsCard = (rows: TagStats[], { name: range, dates, current }: Range) =>
  rows.length > 0 && (
    <Card id="tags" title="Tags" side={<small>x-weir-tag, {daysOf(range, dates)}</small>}>
      {table({
        caption: 'What each tag used and cost, the most tokens first',
        rows,
        key: ({ tag }) => tag,
        columns: [
          [
            'Tag',
            'g',
            ({ tag }) =>
              tag === OTHER_TAG ? (
                name(tag)
              ) : (
                <a href={requestsPath({ ...ALL, tag })}>{name(tag)}</a>
              ),
          ],
          ...(current && dates.length > 1 ? OF_TODAY : []),
          ['Requests', 'n w', ({ totalRequests }) => num(totalRequests)],
          ['Tokens', 'n', ({ totalTokensUsed }) => num(totalTokensUsed)],
          ['Cost', 'n', ({ totalCostUsd }) => money(nanoFrom(totalCostUsd))],
        ],
      })}
    </Card>
  )
