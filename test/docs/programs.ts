/** Programs of the documentation as processes, and a client that calls them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { within } from '../harness/within.js'
import { ROOT } from './blocks.js'

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('not a TCP address')
  return address.port
}

export class Program {
  #child: ChildProcess | undefined
  #log = ''

  constructor(
    private readonly args: readonly string[],
    /** That it listens on. */
    private readonly ports: readonly number[],
    private readonly env: Record<string, string>,
    /** The folder it runs in. */
    private readonly cwd = ROOT,
  ) {}

  /** Resolves when it listens on all ports. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, this.args, { cwd: this.cwd, env: { ...process.env, ...this.env } })
    this.#child = child
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#log += text
      })
    for (const port of this.ports) {
      while (!(await answers(port))) {
        if (child.exitCode !== null) throw new Error(`${this.args.join(' ')} ended:\n${this.#log}`)
        await delay(20)
      }
    }
  }

  /** Resolves with its exit code, or the signal's name. */
  async end(signal: NodeJS.Signals): Promise<number | string | undefined> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return undefined
    const exit = once(child, 'exit')
    child.kill(signal)
    const [code, name] = (await within(exit, `the end of ${this.args.join(' ')}`)) as [number | null, string]
    return code ?? name
  }
}

function answers(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/`).then(
    () => true,
    () => false,
  )
}

export interface Caller {
  sessionId(): string | undefined
  call(tool: string): Promise<string>
  close(): Promise<void>
}

export async function connect(port: number): Promise<Caller> {
  const client = new Client({ name: 'docs', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}/mcp`))
  // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
  await client.connect(transport as Transport)
  return {
    sessionId: () => transport.sessionId,
    async call(name) {
      const { content } = await client.callTool({ name })
      const [block] = content as { text: string }[]
      return block?.text ?? ''
    },
    close: () => client.close(),
  }
}
