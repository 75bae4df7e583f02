/** A session is one, on whichever nodes it is used, restored, followed and deleted. */
import { beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest'
import { later } from '../harness/later.js'
import { WireClient } from '../harness/wire-client.js'
import { echo, find, GONE, isLog, rest, statuses, stream, toolCall, UNKNOWN } from './calls.js'
import { A, B, C, type Cluster, describeBackends, startCluster } from './cluster.js'

describeBackends((backend, name) => {
  let cluster: Cluster

  beforeAll(async () => {
    cluster = await startCluster({ sdk: name === 'SQLite' || name === 'PostgreSQL' ? 'v1' : 'v2', backend })
    return () => cluster.stop()
  })

  beforeEach(() => {
    onTestFailed(() => console.error(cluster.log))
  })

  test('404 is what the store says, and nothing else', async () => {
    const alice = await cluster.open({ headers: { authorization: 'Bearer alice' } })
    // Live on A alone: another node answers 404 to whoever is not Alice, and serves Alice.
    const mallory = { headers: { authorization: 'Bearer mallory' } }
    for (const node of [A, B]) {
      const answer = await alice.on(cluster.at(node)).post(toolCall('echo', { text: 'e' }), mallory)
      expect(answer).toMatchObject({ status: 404, body: { error: { code: -32001 } } })
    }
    expect((await echo(alice, cluster, C)).status).toBe(200)
    expect(await cluster.node(B).status()).toMatchObject({ liveSessions: 0 })
    expect((await echo(alice, cluster, B)).status).toBe(200)
    await cluster.node(C).restart()
    expect((await echo(alice, cluster, C)).status).toBe(200)
    expect(await statuses(new WireClient(cluster.at(A), UNKNOWN), cluster)).toEqual(GONE)
    expect((await alice.on(cluster.at(B)).delete()).status).toBe(200)
    expect(await statuses(alice, cluster)).toEqual(GONE)
  })

  test('nodes that restore a session at the same time each do it once', async () => {
    const client = await cluster.open()
    const before = await Promise.all(cluster.nodes.map((node) => node.stats()))
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) => echo(client, cluster, index % 2 ? B : C)),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(12).fill(200))
    const after = await Promise.all(cluster.nodes.map((node) => node.stats()))
    expect(after.map(({ restored }, node) => restored - (before[node]?.restored ?? 0))).toEqual([0, 1, 1])
  })

  test('two nodes that delete a session at the same time: one has done it, and it is gone', async () => {
    const client = await cluster.open()
    await echo(client, cluster, B)
    const answers = await Promise.all([A, B].map((node) => client.on(cluster.at(node)).delete()))
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 404])
    expect(await statuses(client, cluster)).toEqual(GONE)
  })

  test('DELETE on A while B runs a call and C holds the stream: the call is aborted, the streams end without a response', async () => {
    const client = await cluster.open()
    const standalone = await client.on(cluster.at(C)).get()
    const call = await stream(client, cluster, B, 'hold', { name: client.sessionId })
    const { lines } = cluster.node(B)
    await lines.first((line) => line === `holding ${client.sessionId}`, 'the call on B')
    expect((await client.on(cluster.at(A)).delete()).status).toBe(200)
    await lines.first((line) => line === `aborted ${client.sessionId}`, 'the end of the call on B', { ms: 1_000 })
    expect(await rest(call)).toEqual([])
    expect(await rest(standalone)).toEqual([])
    expect(await statuses(client, cluster)).toEqual(GONE)
    for (const node of [A, B, C]) {
      expect((await client.on(cluster.at(node)).get(call.lastEventId)).status).toBe(404)
    }
  })

  test('the newest GET wins, whichever node it is on: the older one ends, and what comes goes to the newer one', async () => {
    const client = await cluster.open()
    let current = await client.on(cluster.at(A)).get()
    for (const [turn, node] of [B, C, C, A].entries()) {
      const newer = await client.on(cluster.at(node)).get()
      expect(await rest(current)).toEqual([])
      current = newer
      const text = `turn ${turn}`
      await client.on(cluster.at(turn % 3)).post(toolCall('log', { level: 'info', text }))
      await find(current, isLog(text), text)
    }
    await current.leave()
  })

  test('DELETE on A while B restores: what waits there gets 404, and nothing is left', async () => {
    const client = await cluster.open()
    const held = cluster.node(B)
    await held.holdRestores(true)
    try {
      const since = held.lines.count
      const waiting = later(Promise.all([echo(client, cluster, B), echo(client, cluster, B)]))
      await held.lines.first((line) => line === 'restore held', 'a restore on B', { since })
      expect((await client.on(cluster.at(A)).delete()).status).toBe(200)
      await held.holdRestores(false)
      expect((await waiting).map(({ status }) => status)).toEqual([404, 404])
      expect(await statuses(client, cluster)).toEqual(GONE)
    } finally {
      await held.holdRestores(false)
    }
  })
})
