/** A store under test: servers of its own, or a file. */
import type { NatMap, StoreAddress } from './address.js'

export interface Store {
  /** Ports of its servers. Each node has a way of its own to each of them; once more for each time that a port is named. */
  readonly ports: readonly number[]
  /** What a node is told that reaches the servers at these ports, in the order of `ports`. */
  address(ways: readonly number[]): StoreAddress
  stop(): Promise<void>
}

/** How to find each of these servers by the port that other servers know it by. */
export function natMap(ports: readonly number[], ways: readonly number[]): NatMap {
  return Object.fromEntries(ports.map((port, i) => [`127.0.0.1:${port}`, { host: '127.0.0.1', port: ways[i] ?? 0 }]))
}
