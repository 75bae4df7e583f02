/** A way to a server that can fail as networks do. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface TcpProxy {
  /** The server's address, by way of the proxy. */
  url: string
  /** How many connections there were. */
  readonly connections: number
  /** From now on the connections there are carry nothing, and nobody is told: like in a firewall that has forgotten them. */
  blackHole(): void
  /** Ends all connections. */
  cut(): void
  /** While true, new connections are ended at once. */
  refuses: boolean
}

/** Closed with the test. */
export async function startTcpProxy(url: string): Promise<TcpProxy> {
  const target = new URL(url)
  const sockets = new Set<Socket>()
  let connections = 0
  const proxy: TcpProxy = {
    url,
    get connections() {
      return connections
    },
    blackHole() {
      for (const socket of sockets) socket.unpipe().removeAllListeners('close').resume()
    },
    cut() {
      for (const socket of sockets) socket.destroy()
    },
    refuses: false,
  }
  const server = createServer((near) => {
    connections++
    if (proxy.refuses) {
      near.destroy()
      return
    }
    const far = connect(Number(target.port), target.hostname)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => other.destroy())
      socket.pipe(other)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    proxy.cut()
    server.close()
  })
  const address = new URL(url)
  address.port = String((server.address() as AddressInfo).port)
  proxy.url = address.href
  return proxy
}
