/** A kind of trouble: what is done to nodes or to their store, and what of it clients may notice. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Balancer } from '../chaos/balancer.js'
import type { Random } from '../harness/random.js'
import type { Node, Nodes } from './nodes.js'
import type { Store } from './store.js'

export interface Stage<S extends Store = Store> {
  store: S
  nodes: Nodes
  /** The one that is hurt, if it is a node that is hurt. */
  victim: Node
  balancer: Balancer
  random: Random
}

export interface Fault<S extends Store = Store> {
  name: string
  /**
   * What else than success is right: `cut`: connections break; `unknown`: a node is lost, or taken for lost, with what it was
   * doing; `lag`: writes that were acknowledged are lost.
   */
  allows?: readonly ('cut' | 'unknown' | 'lag')[]
  /** Whether it can be done on this machine; by default it can. */
  possible?(store: S): boolean
  /** Does harm, and undoes it; resolves when all is well, as far as those can tell who run nodes and stores. */
  strike(stage: Stage<S>): Promise<void>
}

export const seconds = (n: number): Promise<void> => delay(1000 * n)
