/** How often one client address may begin a session: `--rate`. */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'

export interface Rate {
  /** New sessions. */
  count: number
  /** In so much time. */
  seconds: number
}

export interface AddressLimit {
  /** Serves a request so that what it begins is counted for the address that it came from. */
  serve(req: IncomingMessage, serve: () => void): void
  /** The hook of the handler: how long the client should wait, in ms. */
  rateLimit(): Promise<number | undefined>
}

export async function limitByAddress({ count, seconds }: Rate): Promise<AddressLimit> {
  const { RateLimiterMemory, RateLimiterRes } = await import('rate-limiter-flexible')
  const limiter = new RateLimiterMemory({ points: count, duration: seconds })
  /** A hook sees no socket. */
  const client = new AsyncLocalStorage<string>()
  return {
    serve: (req, serve) => client.run(networkOf(req.socket.remoteAddress ?? ''), serve),
    rateLimit: async () => {
      try {
        await limiter.consume(client.getStore() ?? '')
        return undefined
      } catch (refused) {
        if (refused instanceof RateLimiterRes) return refused.msBeforeNext
        throw refused
      }
    },
  }
}

/** Whose address it is: one of IPv4 as it is; of IPv6 the first 64 bits, for whoever has one address has all of that network. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  if (!isIPv6(address)) return address
  const [front = '', back] = address.split('::').map((part) => part.replace(/%.*$/, ''))
  const groups = (text: string | undefined) => (text ? text.split(':') : [])
  const zeros = back === undefined ? 0 : 8 - groups(front).length - groups(back).length
  const all = [...groups(front), ...Array<string>(zeros).fill('0'), ...groups(back)]
  return `${all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
