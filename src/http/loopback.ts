/** What only this machine can be called by, and reached at. */

/** How most programs call a server that listens on a loopback address. */
export const LOOPBACK_NAMES: readonly string[] = ['localhost', '127.0.0.1', '[::1]']

/** Whether only this machine reaches a server that listens on this address, or a socket that has it. */
export function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || /^(::ffff:)?127(\.\d{1,3}){3}$/.test(address)
}

/**
 * Whether a host name, in lower case and without its port, always means this machine: those that browsers take for that
 * (Secure Contexts, section 3.1). Nobody can have such a name lead elsewhere and back.
 */
export function isLoopbackHost(name: string): boolean {
  return /^(([a-z\d-]+\.)*localhost\.?|127(\.\d{1,3}){3}|\[::1\])$/.test(name)
}

/**
 * Whether a request for this host of a parsed URL can have come in on a loopback address: also by what no client should call this
 * machine, but systems lead there.
 */
export function leadsToLoopback(host: string): boolean {
  return isLoopbackHost(host) || /^(0\.0\.0\.0|\[::\]|\[::ffff:(7f[\da-f]{2}:[\da-f]{1,4}|0:0)\])$/.test(host)
}
