/**
 * Clients of Mastra. They want Node.js 22 and some 200 packages, so they are installed apart, and each runs in a process of
 * its own.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Elicited } from '../harness/client.js'
import { later } from '../harness/later.js'
import { type Connected, type Ears, type RealClient, textOf } from './client.js'

const FOLDER = join(import.meta.dirname, 'mastra')
const NODE = join(FOLDER, 'node_modules/node/bin/node')

/** What the process says. */
type Said =
  | { ready: true }
  | { call: number; result: unknown }
  | { call: number; error: string }
  | { question: number; message: string }
  | { heard: string; params?: Record<string, unknown> }

/** What it is told. It ends with the channel. */
type Told =
  | { call: number; tool: string; args: Record<string, unknown> }
  | { question: number; answer: Pick<Elicited, 'action' | 'content'> }

const inProcess =
  (line: string) =>
  async (url: string, ears: Ears): Promise<Connected> => {
    const child = fork(join(FOLDER, 'client.mjs'), [line, url], {
      execPath: NODE,
      // those of the tests are for another Node.js
      execArgv: [],
      env: { ...process.env, MASTRA_TELEMETRY_DISABLED: '1' },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    const tell = (told: Told) => child.send(told)
    let complaints = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaints += text
    })
    const exit = once(child, 'exit')
    const ended = later(
      exit.then(([code, signal]): never => {
        throw new Error(`the client ended: ${signal ?? code}\n${complaints}`)
      }),
    )
    const calls: { resolve(result: unknown): void; reject(error: Error): void }[] = []
    const ready = new Promise<void>((resolve) => {
      child.on('message', async (said: Said) => {
        if ('ready' in said) resolve()
        else if ('result' in said) calls[said.call]?.resolve(said.result)
        else if ('error' in said) calls[said.call]?.reject(new Error(said.error))
        else if ('heard' in said) ears.heard(said.heard, said.params)
        else tell({ question: said.question, answer: await ears.asked(said.message) })
      })
    })
    await Promise.race([ready, ended])
    return {
      async call(tool, args = {}) {
        const result = new Promise((resolve, reject) => {
          tell({ call: calls.push({ resolve, reject }) - 1, tool, args })
        })
        return textOf(await Promise.race([result, ended]))
      },
      async close() {
        if (child.connected) child.disconnect()
        await exit
      },
    }
  }

const SAME = {
  revision: '2025-11-25',
  question: 'ask',
  passesNotifications: true,
  unfinished: { drain: 'outcome-unknown', kill: 'outcome-unknown' },
  ...(existsSync(NODE) ? {} : { missing: '`npm run clients:mastra` installs it' }),
} as const

export const MASTRA_CLIENTS: readonly RealClient[] = [
  { name: '`@mastra/mcp` 1.18', connect: inProcess('mastra-mcp-1'), ...SAME },
  { name: '`@mastra/mcp` 2', connect: inProcess('@mastra/mcp'), ...SAME },
]
