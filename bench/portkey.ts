/** Starts `@portkey-ai/gateway` from where the benchmark has installed it. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { pathToFileURL } from 'node:url'
import { answerUsage, optionsOfParent, urlOf } from './child.ts'

const { start } = optionsOfParent<{ start: string }>()

/** Portkey needs a port number and cannot choose a free port itself. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

const port = await freePort()
process.env.TRUSTED_CUSTOM_HOSTS = '127.0.0.1'
process.argv = [...process.argv.slice(0, 2), '--headless', `--port=${port}`]
await import(pathToFileURL(start).href)
for (let tries = 0; ; tries += 1) {
  const up = await fetch(urlOf({ port })).then(
    () => true,
    () => false,
  )
  if (up) break
  if (tries === 100) throw new Error('it does not listen')
  await new Promise((resolve) => setTimeout(resolve, 50))
}
answerUsage(urlOf({ port }))
