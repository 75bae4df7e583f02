/**
 * Clients that people use, as they come, behind a proxy without affinity: the node that has their stream and runs their
 * calls is drained or killed, and they go on. What one of them cannot do by itself is in docs/clients.md.
 */
import { beforeAll, beforeEach, describe, expect, onTestFailed, test } from 'vitest'
import { A, B, C, type Cluster, SQLITE, startCluster } from '../cluster/cluster.js'
import { tableAfter } from '../docs/blocks.js'
import type { WhoAmI } from '../fixtures/content.js'
import { accepted } from '../harness/features.js'
import { later } from '../harness/later.js'
import { Recorder } from '../harness/recorder.js'
import { within } from '../harness/within.js'
import { AI_SDK_CLIENTS } from './ai-sdk.js'
import type { Connected, Ending, RealClient } from './client.js'
import { MASTRA_CLIENTS } from './mastra.js'
import { SDK_CLIENTS } from './sdk.js'

const CLIENTS: readonly RealClient[] = [...SDK_CLIENTS, ...AI_SDK_CLIENTS, ...MASTRA_CLIENTS]

/** How long running calls get at a drain, in ms. */
const DRAIN_TIMEOUT = 2000
/** When a call that has not ended by then is left to its client's own timeout, in ms since its node went. */
const BOUND = 20_000
/** Default of the option: when an answer that takes its time becomes a stream, in ms. */
const UPGRADE_AFTER = 100
/** A question whose answer is put off until the drain has begun. */
const AT_DRAIN = 'at the drain?'

/** A client that was connected, and all that it met. */
class Subject {
  readonly heard = new Recorder<string>()
  readonly asked = new Recorder<string>()
  session = { id: '', protocolVersion: '' }
  /** A call that waits for its user when the drain begins. */
  waiting: Promise<string> = Promise.resolve('')
  /** A call that never ends by itself. */
  endless: Promise<string> = Promise.resolve('')
  #connected: Connected | undefined
  #answer = () => {}
  #answered = new Promise<void>((resolve) => {
    this.#answer = resolve
  })

  constructor(readonly client: RealClient) {}

  async connect(url: string): Promise<void> {
    this.#connected = await this.client.connect(url, {
      heard: (method, params) => this.heard.add(String(params?.data ?? method)),
      asked: async (message) => {
        this.asked.add(message)
        if (message === AT_DRAIN) await this.#answered
        return accepted(message)
      },
    })
    this.session = (await this.whoami()).session
  }

  call(tool: string, args?: Record<string, unknown>): Promise<string> {
    if (!this.#connected) throw new Error('it never connected')
    return this.#connected.call(tool, args)
  }

  /** A call that asks the user; `aside`: on the session's stream, not the call's own. */
  question(message: string, aside: boolean): Promise<string> {
    return this.call(this.client.question, { message, prompt: message, aside })
  }

  async whoami() {
    return JSON.parse(await this.call('whoami')) as WhoAmI & { session: { id: string; protocolVersion: string } }
  }

  begin(): void {
    this.waiting = later(this.question(AT_DRAIN, false))
    this.endless = this.call('hold', { name: this.session.id }).then(
      () => 'a result',
      (error) => (String(error).includes('outcome') ? 'outcome-unknown' : String(error)),
    )
  }

  answer(): void {
    this.#answer()
  }

  async close(): Promise<void> {
    await this.#connected?.close()
  }
}

describe.each(['drain', 'kill'] as const)('after a %s', (way) => {
  const subjects = CLIENTS.filter(({ missing }) => missing === undefined).map((client) => new Subject(client))
  let cluster: Cluster
  let gone = 0

  beforeAll(async () => {
    cluster = await startCluster({
      sdk: 'v1',
      backend: SQLITE,
      // the default, as the clients' settings are
      options: { retryInterval: 1000 },
      drain: { timeout: DRAIN_TIMEOUT },
    })
    const { proxy } = cluster
    const all = proxy.targets
    const a = cluster.node(A)

    proxy.targets = all.slice(A, B)
    await Promise.all(subjects.map((subject) => subject.connect(cluster.url)))
    // what is asked there arrives only when it is open
    await Promise.all(subjects.map((subject) => within(subject.question('before?', true), 'the stream of each client')))
    for (const subject of subjects) subject.begin()
    for (const { asked, session } of subjects) {
      await asked.first((message) => message === AT_DRAIN, 'the question')
      await a.lines.first((line) => line === `holding ${session.id}`, 'the endless call')
    }
    // One that began later has become a stream before it ends, so the others have, too.
    await subjects[0]?.call('slow', { steps: 1, ms: 2 * UPGRADE_AFTER })

    gone = performance.now()
    const ended = later(way === 'drain' ? a.terminate() : a.kill())
    if (way === 'drain') await a.lines.first((line) => line === 'draining', 'the drain')
    proxy.targets = all.slice(B)
    for (const subject of subjects) subject.answer()
    await ended
    await a.start()
    proxy.targets = all
    return async () => {
      await Promise.all(subjects.map((subject) => subject.close().catch(() => {})))
      await cluster.stop()
    }
  })

  beforeEach(() => {
    onTestFailed(() => console.error(cluster.log))
  })

  describe.each(subjects)('$client.name', (subject) => {
    const { question, revision, passesNotifications, unfinished } = subject.client

    test('goes on in its session, on every node', async () => {
      const pids = new Set<number>()
      for (let turn = 0; turn < 9; turn++) {
        const { session, pid } = await within(subject.whoami(), 'an answer')
        expect(session.id).toBe(subject.session.id)
        pids.add(pid)
      }
      expect(pids.size).toBe(cluster.nodes.length)
      expect(subject.session.protocolVersion).toBe(revision)
    })

    test(`answers what the server asks on its stream (${question})`, async () => {
      expect(await within(subject.question('afterwards?', true), 'an answer')).toContain('afterwards?')
      expect(subject.asked.all).toEqual(['before?', AT_DRAIN, 'afterwards?'])
    })

    test.runIf(passesNotifications)('hears what it is told on its stream', async () => {
      expect(await cluster.node(B).notifySession(subject.session.id, 'still there?')).toBe(true)
      await subject.heard.first((data) => data === 'still there?', 'the log message')
      await cluster.node(C).notifyList('tools')
      await subject.heard.first((data) => data === 'notifications/tools/list_changed', 'the news of the list')
    })

    test.runIf(way === 'drain')('has the result of a call that waited for its answer', async () => {
      expect(await within(subject.waiting, 'the result')).toContain(AT_DRAIN)
    })

    test(`has a call cut short end with: ${unfinished[way]}`, async () => {
      const left = Math.max(0, BOUND - (performance.now() - gone))
      const bound = new Promise<Ending>((resolve) => setTimeout(resolve, left, 'own timeout'))
      expect(await Promise.race([subject.endless, bound])).toBe(unfinished[way])
    })
  })
})

for (const { name, missing } of CLIENTS) {
  if (missing === undefined) continue
  test.skip(`${name}: ${missing}`, () => {})
  console.warn(`TESTS SKIPPED, ${name}: ${missing}`)
}

test('docs/clients.md says of each client what is proved here', () => {
  expect(tableAfter('docs/clients.md', '## Seen in tests')).toEqual(
    CLIENTS.map(({ name, revision, passesNotifications, unfinished: { drain, kill } }) => [
      name,
      revision,
      'goes on',
      'comes back',
      passesNotifications ? 'heard' : 'dropped by the client',
      drain,
      kill,
    ]),
  )
})
