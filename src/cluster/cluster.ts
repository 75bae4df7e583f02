/** One node of the cluster, with its ways to talk to the others. */
import type { BoundedBackend } from '../backend/bounded.js'
import { Questions } from './ask.js'
import { DeletedSessions } from './deleted-sessions.js'
import { News } from './news.js'
import { ClusterNode } from './node.js'

export class Cluster {
  readonly node: ClusterNode
  readonly questions: Questions
  readonly news: News
  readonly deleted = new DeletedSessions()

  constructor({ bus, shared }: Pick<BoundedBackend, 'bus' | 'shared'>, onerror: (error: Error) => void) {
    this.node = new ClusterNode(bus, shared)
    this.questions = new Questions(this.node, onerror)
    this.news = new News(this.node, bus, onerror)
  }

  /** Takes this node out of the cluster at once. */
  close(): Promise<void> {
    return this.node.close()
  }
}
