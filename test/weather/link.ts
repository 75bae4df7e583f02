/**
 * A way to a server that can turn into a black hole: connections stay open, new ones are accepted, and nothing comes through.
 * When it is mended, what was on its way arrives late, as it does with TCP.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export class Link {
  #server: Server
  #sockets = new Set<Socket>()
  #hole = false

  private constructor(private readonly target: number) {
    this.#server = createServer({ pauseOnConnect: true }, (inner) => this.#join(inner))
  }

  /** Whoever starts one closes it. */
  static async start(target: number): Promise<Link> {
    const link = new Link(target)
    await new Promise<void>((resolve) => link.#server.listen(0, '127.0.0.1', resolve))
    return link
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  swallow(): void {
    this.#hole = true
    for (const socket of this.#sockets) socket.pause()
  }

  mend(): void {
    this.#hole = false
    for (const socket of this.#sockets) socket.resume()
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #join(inner: Socket): void {
    const outer = connect(this.target, '127.0.0.1')
    this.#pass(inner, outer)
    this.#pass(outer, inner)
  }

  #pass(from: Socket, to: Socket): void {
    this.#sockets.add(from)
    from.setNoDelay(true)
    from.on('data', (chunk) => to.write(chunk))
    from.on('end', () => to.end())
    from.on('error', () => {})
    from.on('close', () => {
      this.#sockets.delete(from)
      // what has broken here breaks there; in a hole nobody there hears of it, until it is mended
      if (from.errored) to.destroy()
      else to.end()
    })
    if (this.#hole) from.pause()
    else from.resume()
  }
}
