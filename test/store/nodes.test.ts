/** Tests for Redis that is more than one node: a cluster, and a primary that changes. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { redirected, redirectionOf } from '../../src/store/redis/redirection.ts'
import { tcpClient } from '../../src/store/redis/tcp.ts'
import { StoreError } from '../../src/store/store.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import { openDoor, startCluster, type Cluster, type Door } from '../support/cluster.ts'
import { dayOf } from '../support/contract.ts'
import { startRedis, type Redis } from '../support/redis.ts'
import { tcpStore, type TcpStore } from '../support/stores.ts'

const stores: TcpStore[] = []

afterEach(async () => {
  for (const store of stores.splice(0)) await store.remove()
})

function storeOf(url: string, options: Parameters<typeof tcpStore>[1] = {}): TcpStore {
  const store = tcpStore(url, options)
  stores.push(store)
  return store
}

const admits = (name: string, count: number) =>
  Array.from({ length: count }, (_, n) => admitOf({ id: `${name}-${n}`, user: `user-${n}` }))

describe('a cluster of two nodes', () => {
  let cluster: Cluster

  beforeAll(async () => {
    cluster = await startCluster()
  })

  afterEach(async () => {
    await cluster.nodes[await cluster.owner()].flush()
  })

  afterAll(() => cluster.stop())

  test.each([0, 1] as const)('works with the address of node %i', async (node) => {
    const store = storeOf(cluster.nodes[node].url)
    expect(await store.probe()).toEqual({})
    const one = admitOf({ id: 'one' })
    expect(await store.execute(one)).toMatchObject({ ok: true })
    expect(await store.execute(settleOf(one))).toEqual({ applied: true })
    expect(await store.takeTurn('someone', 1)).toMatchObject({ taken: true })
    expect((await dayOf(store))?.total).toMatchObject({ requests: 1 })
  })

  test('batches and single commands that are redirected together are each counted once', async () => {
    const other = cluster.nodes[1 - (await cluster.owner())]!
    const [batched, single] = (['calls', 'none'] as const).map((sharing) =>
      storeOf(other.url, { sharing }),
    )
    const work = [batched, single].map(async (store, index) => {
      const requests = admits(`s${index}`, 100)
      const answers = await Promise.all(requests.map((admit) => store!.execute(admit)))
      expect(answers.filter(({ ok }) => !ok)).toEqual([])
      await Promise.all(requests.map((admit) => store!.execute(settleOf(admit))))
    })
    await Promise.all(work)
    expect((await dayOf(single!))?.total).toMatchObject({ requests: 200, charged: 3000 })
  })

  test('keys that move to the other node are found, and nothing is counted twice or lost', async () => {
    const store = storeOf(cluster.nodes[0].url)
    const before = admits('before', 10)
    for (const admit of before) await store.execute(admit)
    const asked = admits('asked', 5)
    const waiting: Promise<unknown>[] = []
    await cluster.move(async () => {
      // The node has none of the keys of this call, so it names the other one.
      expect(await store.session('unknown', 1)).toBe(false)
      // It has some of the keys of these, so it says that they must be sent again.
      waiting.push(...asked.map((admit) => store.execute(admit)))
    })
    await Promise.allSettled(waiting)
    for (const admit of asked) expect(await store.execute(admit)).toMatchObject({ ok: true })
    for (const admit of [...before, ...asked]) {
      expect(await store.execute(settleOf(admit))).toEqual({ applied: true })
    }
    expect((await dayOf(store))?.total).toMatchObject({ requests: 15 })
  })

  test('a node that is gone is looked for at the address in the settings', async () => {
    const owner = await cluster.owner()
    const store = storeOf(cluster.nodes[1 - owner]!.url)
    expect(await store.events(1)).toEqual([])
    await cluster.nodes[owner].command(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'])
    await expect.poll(() => store.events(1).catch(String)).toEqual([])
  })
})

test.each([
  ['MOVED 3999 10.0.0.7:6381', 'rediss://u:p@10.0.0.7:6381/0'],
  ['MOVED 3999 node.example:6381', 'rediss://u:p@node.example:6381/0'],
  ['ASK 3999 2001:db8::7:6381', 'rediss://u:p@[2001:db8::7]:6381/0'],
  ['MOVED 3999 :6381', 'rediss://u:p@home.example:6381/0'],
  ['MOVED 3999 ?:6381', 'rediss://u:p@home.example:6381/0'],
])('%s leads to %s', (reply, url) => {
  expect(redirected('rediss://u:p@home.example:6379/0', redirectionOf(reply)!)).toBe(url)
})

test('other replies are no redirections', () => {
  for (const reply of ['READONLY You can’t write', 'MOVED', 'ERR MOVED 1 a:1', 'MOVED 1 a:b']) {
    expect(redirectionOf(reply)).toBeUndefined()
  }
})

describe('an address that leads to another node', () => {
  let nodes: [Redis, Redis]
  let door: Door

  beforeAll(async () => {
    nodes = await Promise.all([startRedis(), startRedis()])
  })

  afterAll(async () => {
    for (const node of nodes) await node.stop()
  })

  afterEach(async () => {
    door.close()
    for (const node of nodes) {
      await node.command(['REPLICAOF', 'NO', 'ONE'])
      await node.command(['CONFIG', 'SET', 'min-replicas-to-write', 0])
      await node.flush()
    }
  })

  test.each<[string, string[], string]>([
    ['became a replica', ['REPLICAOF', '127.0.0.1', '1'], 'READONLY'],
    ['lost its replicas', ['CONFIG', 'SET', 'min-replicas-to-write', '1'], 'NOREPLICAS'],
  ])('an old connection to a primary that %s is replaced', async (_, change, code) => {
    door = await openDoor(nodes[0].port)
    const store = storeOf(`redis://127.0.0.1:${door.port}`)
    expect(await store.execute(admitOf({ id: '1' }))).toMatchObject({ ok: true })
    await nodes[0].command(change)
    door.leadTo(nodes[1].port)
    const refused = await store.execute(admitOf({ id: '2' })).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(StoreError)
    expect((refused as StoreError).message).toContain(code)
    const from = performance.now()
    await expect
      .poll(() => store.execute(admitOf({ id: '3' })).catch(String))
      .toMatchObject({ ok: true })
    expect(performance.now() - from).toBeLessThan(2000)
    expect(door.opened()).toBe(2)
  })

  test('answers that are on their way over the old connection still arrive', async () => {
    door = await openDoor(nodes[0].port)
    const { redis, close } = tcpClient({
      url: `redis://127.0.0.1:${door.port}`,
      timeoutMs: 10_000,
    })
    await redis.set('a', '1')
    await nodes[0].command(['REPLICAOF', '127.0.0.1', '1'])
    const [write, ...reads] = await Promise.allSettled([
      redis.set('a', '2'),
      ...Array.from({ length: 50 }, () => redis.get('a')),
    ])
    expect(write.status).toBe('rejected')
    expect(reads.map((read) => read.status === 'fulfilled' && read.value)).toEqual(
      Array.from({ length: 50 }, () => '1'),
    )
    close()
  })

  test('while the address still leads to the old node, it is not opened in a tight loop', async () => {
    door = await openDoor(nodes[0].port)
    const store = storeOf(`redis://127.0.0.1:${door.port}`)
    await store.events(1)
    await nodes[0].command(['REPLICAOF', '127.0.0.1', '1'])
    for (const end = performance.now() + 1000; performance.now() < end;) {
      await store.execute(admitOf({ id: '2' })).catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(door.opened()).toBeLessThan(10)
  })
})
