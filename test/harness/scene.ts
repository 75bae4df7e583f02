/** A client and the nodes that serve it, one or several, and what tests do with them. */
import { expect } from 'vitest'
import type { WhoAmI } from '../fixtures/content.js'
import type { Notification, TestClient } from './client.js'
import type { TestServer } from './server.js'

type Matches = (notification: Notification) => boolean

export const isLog =
  (data: string): Matches =>
  ({ method, params }) =>
    method === 'notifications/message' && params?.data === data

const isUpdate =
  (uri: string): Matches =>
  ({ method, params }) =>
    method === 'notifications/resources/updated' && params?.uri === uri

export class Scene {
  constructor(
    readonly client: TestClient,
    readonly nodes: readonly TestServer[],
  ) {}

  /** Sends what follows to one node, but GETs. */
  turnTo(node: number): void {
    const { wire } = this.client
    const before = wire.route
    wire.route = (exchange) => (exchange.method === 'GET' ? before?.(exchange) : node)
  }

  async whoami(): Promise<WhoAmI> {
    return JSON.parse(await this.client.call('whoami')) as WhoAmI
  }

  /** Has an instance of the session on each of the nodes. */
  async liveOn(...nodes: number[]): Promise<void> {
    const pids = new Set<number>()
    for (const node of nodes) {
      this.turnTo(node)
      pids.add((await this.whoami()).pid)
    }
    expect(pids.size).toBe(nodes.length)
  }

  /** How many notifications have come; for those that wait for what comes later. */
  get now(): number {
    return this.client.notifications.count
  }

  notified(matches: Matches, what: string, since = 0): Promise<Notification> {
    return this.client.notifications.first(matches, what, { since })
  }

  logged(data: string, since = 0): Promise<Notification> {
    return this.notified(isLog(data), `the log message ${data}`, since)
  }

  updated(uri: string, since = 0): Promise<Notification> {
    return this.notified(isUpdate(uri), `an update of ${uri}`, since)
  }

  since(since: number): Notification[] {
    return this.client.notifications.all.slice(since)
  }

  /** What was logged. */
  logs(since: number): unknown[] {
    return this.since(since).flatMap(({ method, params }) => (method === 'notifications/message' ? [params?.data] : []))
  }

  /** Whatever the nodes sent on the standalone stream before is there when this resolves, if it was not lost. */
  async settled(...nodes: number[]): Promise<void> {
    const { wire } = this.client
    for (const node of nodes.length > 0 ? nodes : this.nodes.keys()) {
      const before = wire.route
      const text = `settled ${Math.random()}`
      this.turnTo(node)
      await this.client.call('log', { level: 'emergency', text })
      await this.logged(text)
      wire.route = before
    }
  }
}
