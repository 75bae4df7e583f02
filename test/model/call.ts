import type { JSONRPCMessage } from '../../src/index.js'
import type { Tool } from './server.js'
import type { Connection } from './world.js'

export interface Call {
  id: number
  tool: Tool
  sentAt: number
  steps: number
  connection: Connection | undefined
  /** Where to go on; undefined: the client has no way to. */
  lastEventId: string | undefined
  progress: number
  response: JSONRPCMessage | undefined
  /** The client is through with it: answered, or it cannot be followed. */
  over: boolean
  cancelled: boolean
}

export interface Question {
  wireId: string
  call: unknown
  answered: boolean
  /** How often it was answered, whatever became of that: only one answer can be of use. */
  attempts: number
}
