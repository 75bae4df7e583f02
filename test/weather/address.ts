/** How a node reaches its store: what a store tells, and a node's program understands. All ports are on loopback. */

/** Where a server that is known by one port is really reached, by `host:port`: ioredis' `natMap`. */
export type NatMap = Record<string, { host: string; port: number }>

export type StoreAddress =
  | { kind: 'sqlite'; file: string }
  | { kind: 'redis'; port: number }
  | { kind: 'redis-sentinel'; sentinels: number[]; master: string; map: NatMap }
  | { kind: 'redis-cluster'; ports: number[]; map: NatMap }
  | { kind: 'postgres'; url: string; listenUrl: string }
