/** `mcp-roam serve`: a stdio server for many clients over HTTP, each session with a child process of its own. */
import { defaultFile, nameOf, parseBackendUrl, SHARED_BACKENDS } from '../backend/backend-url.js'
import { openBackend } from '../backend/open-backend.js'
import { Failure } from '../command-error.js'
import { inheritedEnv } from '../stdio/child-env.js'
import { whyNotExecutable } from '../stdio/start-error.js'
import { freePort, inUrl, isLoopback, type ServiceOptions, startService } from './http-server.js'
import { stopSignal } from './stop-signal.js'
import { Workers } from './worker-pool.js'
import { isWorker, work } from './worker-process.js'

export interface ServeOptions extends ServiceOptions {
  /** Default: a SQLite file in the user's state folder. */
  backend?: string | undefined
  /** Processes that serve. */
  workers: number
  /** How long to serve on after SIGTERM, in ms. Default: see {@link noticeFor}. */
  drainNotice?: number | undefined
  /** How long running calls may then take, in ms. */
  drainTimeout: number
}

/**
 * What a load balancer may take to see that /healthz says 503, or Kubernetes to take a pod from its endpoints; and as long as
 * Node keeps an idle connection, so that a client seldom meets one that is just being closed. In ms.
 */
const NOTICE = 5_000

/** Serves until the first SIGTERM or SIGINT, and then until running calls are finished. Throws a {@link Failure}. */
export async function serve(options: ServeOptions, log: (line: string) => void): Promise<void> {
  const { host, path, env, command, args, workers } = options
  const url = parseBackendUrl(options.backend ?? `sqlite:${defaultFile([command, ...args])}`)
  if (isWorker()) return work(options, url, log)
  if (workers > 1 && url.kind === 'memory') {
    throw new Failure(`memory: is not shared by processes; with --workers use ${SHARED_BACKENDS}`, 2)
  }
  const trouble = whyNotExecutable(command, env.PATH ?? inheritedEnv().PATH)
  if (trouble !== undefined) throw new Failure(trouble)
  const backend = await openBackend(url)

  const told = stopSignal().then((signal) => {
    log('mcp-roam: draining')
    return { notice: noticeFor(signal, options), timeout: options.drainTimeout }
  })
  const ready = (port: number, who: string) =>
    log(`mcp-roam: ready at http://${inUrl(host)}:${port}${path}, ${who}, backend ${nameOf(url)}`)

  if (workers > 1) {
    // It was opened to see that it works; each worker opens its own.
    await backend.close?.()
    const port = options.port || (await freePort(host))
    await new Workers(workers, { port, log }).run(told, () => ready(port, `${workers} workers`))
    return
  }
  const service = await startService(options, backend, log)
  try {
    ready(service.port, `node ${service.nodeId}`)
    await service.drain(await told)
  } finally {
    await service.close()
  }
}

/**
 * Who pressed Ctrl-C need not wait for a load balancer to learn of it, nor is there one in front of an address that only this
 * machine can reach, or so we suppose.
 */
function noticeFor(signal: 'SIGTERM' | 'SIGINT', { drainNotice, host }: ServeOptions): number {
  if (signal === 'SIGINT') return 0
  return drainNotice ?? (isLoopback(host) ? 0 : NOTICE)
}
