/** The bare pass-through on Node. */
import { serve } from '@hono/node-server'
import { bareApp } from './bare.ts'
import { answerUsage, optionsOfParent, urlOf } from './child.ts'

const { fetch } = bareApp(optionsOfParent<{ upstream: string }>().upstream)

serve({ fetch, port: 0, hostname: '127.0.0.1' }, (address) => answerUsage(urlOf(address)))
