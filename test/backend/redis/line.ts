/** A line to a server: one address, whatever is behind it, which the test can cut, fill with silence, or lay to another server. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Line {
  url: string
  port: number
  /** How many connections were made so far. */
  connections: number
  /** Where new connections lead from now on; those there are stay. */
  leadTo(url: string): void
  /** The connections there are stay open, and nothing passes any more. With `lasting` also those to come, until {@link heal}. */
  silence(lasting?: boolean): void
  /** Those that were silenced stay silent. New connections are as they should be. */
  heal(): void
}

export async function line(url: string): Promise<Line> {
  let target = new URL(url)
  let silent = false
  const sockets: Socket[] = []
  const server = createServer((near) => {
    it.connections++
    near.on('error', () => {})
    sockets.push(near)
    if (silent) return
    const far = connect(Number(target.port), target.hostname)
    far.on('error', () => near.destroy())
    far.on('close', () => near.destroy())
    near.on('close', () => far.destroy())
    sockets.push(far)
    near.pipe(far).pipe(near)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not a TCP address')
  const it: Line = {
    url: `redis://127.0.0.1:${address.port}`,
    port: address.port,
    connections: 0,
    leadTo(other) {
      target = new URL(other)
    },
    silence(lasting = false) {
      silent = lasting
      for (const socket of sockets) {
        socket.unpipe()
        socket.pause()
      }
    },
    heal() {
      silent = false
    },
  }
  return it
}
