/** Two nodes of Redis in cluster mode, and a door: an address that leads to one server or another. */
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import { once } from 'node:events'
import { PREFIX } from '../../src/store/redis/keys.ts'
import { freePort, startRedis, type Redis } from './redis.ts'

export type Cluster = {
  nodes: [Redis, Redis]
  /** The slot of Weir's keys, and the index of the node that has it. */
  slot: number
  owner(): Promise<0 | 1>
  /** Moves the slot to the other node, key by key. `halfway` runs when no key has been moved yet. */
  move(halfway: () => Promise<void>): Promise<void>
  stop(): Promise<void>
}

const SLOTS = [
  [0, 8191],
  [8192, 16_383],
] as const

export async function startCluster(): Promise<Cluster> {
  const start = async () => {
    const bus = String(await freePort())
    const redis = await startRedis(undefined, ['--cluster-enabled', 'yes', '--cluster-port', bus])
    return { redis, bus }
  }
  const [one, two] = await Promise.all([start(), start()])
  const nodes: [Redis, Redis] = [one.redis, two.redis]
  for (const [index, node] of nodes.entries()) {
    await node.command(['CLUSTER', 'ADDSLOTSRANGE', ...SLOTS[index]!])
    await node.command(['CLUSTER', 'SET-CONFIG-EPOCH', index + 1])
  }
  await nodes[0].command(['CLUSTER', 'MEET', '127.0.0.1', nodes[1].port, two.bus])
  for (const node of nodes) await ready(node)
  const slot = Number(await nodes[0].command(['CLUSTER', 'KEYSLOT', PREFIX]))
  const ids = await Promise.all(nodes.map((node) => node.command(['CLUSTER', 'MYID']).then(String)))

  /** One slot has one owner in the eyes of the first node: `id address flags … [slots]`. */
  async function owner(): Promise<0 | 1> {
    const ranges = (await nodes[0].command(['CLUSTER', 'SLOTS'])) as [number, number, unknown[]][]
    const range = ranges.find(([from, to]) => from <= slot && slot <= to)
    return range?.[2][2] === ids[0] ? 0 : 1
  }

  return {
    nodes,
    slot,
    owner,
    async move(halfway) {
      const from = await owner()
      const [source, target] = [nodes[from], nodes[1 - from]!]
      await target.command(['CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[from]!])
      await source.command(['CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[1 - from]!])
      await halfway()
      for (;;) {
        const keys = (await source.command(['CLUSTER', 'GETKEYSINSLOT', slot, 100])) as string[]
        if (keys.length === 0) break
        const place = ['127.0.0.1', target.port, '', 0, 5000, 'KEYS']
        await source.command(['MIGRATE', ...place, ...keys])
      }
      for (const node of [target, source]) {
        await node.command(['CLUSTER', 'SETSLOT', slot, 'NODE', ids[1 - from]!])
      }
    },
    async stop() {
      await Promise.all(nodes.map((node) => node.stop('SIGKILL')))
    },
  }
}

async function ready(node: Redis): Promise<void> {
  for (const end = Date.now() + 20_000; Date.now() < end;) {
    const info = String(await node.command(['CLUSTER', 'INFO']))
    if (info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:2')) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('the nodes did not form a cluster')
}

export type Door = {
  port: number
  /** Connections that were opened. */
  opened(): number
  /** New connections lead there. Old ones stay where they are. */
  leadTo(port: number): void
  close(): void
}

export async function openDoor(port: number): Promise<Door> {
  let to = port
  let opened = 0
  const ends = new Set<Socket>()
  const server = createServer((near) => {
    opened += 1
    const far = connect(to, '127.0.0.1')
    for (const end of [near, far]) {
      ends.add(end)
      end.on('error', () => undefined)
    }
    near.pipe(far).pipe(near)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    opened: () => opened,
    leadTo(next) {
      to = next
    },
    close() {
      for (const end of ends) end.destroy()
      server.close()
    },
  }
}
