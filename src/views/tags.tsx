/** What each tag costs: the table of the overview. */
import type { TagStats } from '../reports/tags.ts'
import { OTHER_TAG } from '../ledger/capacity.ts'
import { nanoFrom } from '../ledger/money.ts'
import { many } from './format.ts'
import { Card, money, name, num } from './parts.tsx'
import { ALL, requestsPath } from './requests.tsx'
import { table } from './table.tsx'

/** Nothing without tags. */
export const tagsCard = (rows: TagStats[], days: number) =>
  rows.length > 0 && (
    <Card id="tags" title="Tags" side={<small>x-weir-tag, {many(days, 'day')}</small>}>
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
          ['Tokens today', 'n w', ({ tokensUsedDay }) => num(tokensUsedDay)],
          ['Cost today', 'n', ({ costUsd }) => money(nanoFrom(costUsd))],
          ['Requests', 'n w', ({ totalRequests }) => num(totalRequests)],
          ['Tokens', 'n', ({ totalTokensUsed }) => num(totalTokensUsed)],
          ['Cost', 'n', ({ totalCostUsd }) => money(nanoFrom(totalCostUsd))],
        ],
      })}
    </Card>
  )
