/** The servers that are measured, in the order of the table: what node:http can do, then each SDK line's. */
export const SERVERS = [
  'bare',
  'ceiling-v1',
  'sdk-v1',
  'sdk-json-v1',
  'roam-memory-v1',
  'roam-sqlite-v1',
  'ceiling-v2',
  'sdk-v2',
  'sdk-json-v2',
  'roam-memory-v2',
  'roam-sqlite-v2',
] as const

export type ServerName = (typeof SERVERS)[number]
