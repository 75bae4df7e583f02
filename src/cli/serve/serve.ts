/** `mcp-roam serve`: a stdio server for many clients over HTTP, each session with a child process of its own. */
import type { DrainOptions } from '../../handler.js'
import { isLoopback } from '../../http/loopback.js'
import { displayName, parseBackendUrl, SHARED_BACKENDS } from '../backend/backend-url.js'
import { defaultFile } from '../backend/default-file.js'
import { openBackend } from '../backend/open-backend.js'
import { CommandError } from '../command-error.js'
import { isOpenToOthers } from '../secrets.js'
import { inheritedEnv } from '../stdio/child-env.js'
import { startProblem } from '../stdio/start-error.js'
import { freePort, urlHost } from './address.js'
import { type HttpServerOptions, type Log, startHttpServer } from './http-server.js'
import { stopSignal } from './stop-signal.js'
import { WorkerPool } from './worker-pool.js'
import { isWorker, runWorker } from './worker-process.js'

export interface ServeOptions extends HttpServerOptions {
  /** URL of the backend. Default: a SQLite file in the user's state folder. */
  backend?: string | undefined
  /** Where encryption keys and secrets were read, if it was a file. */
  encryptionKeysFile?: string | undefined
  secretFile?: string | undefined
  /** Processes that serve. */
  workers: number
  /** How long to serve on after SIGTERM, in ms. Default: see {@link noticeAfter}. */
  drainNotice?: number | undefined
  /** How long running calls may then take, in ms. */
  drainTimeout: number
}

/**
 * How long a node serves on after SIGTERM, in ms. Load balancers, and Kubernetes, need about this long to learn that it is
 * leaving. It is also how long Node keeps an idle connection, so few clients meet one that is just being closed.
 */
const NOTICE = 5_000

/**
 * Serves until the first SIGTERM or SIGINT, and then until running calls have finished.
 *
 * @throws CommandError if it cannot serve.
 */
export async function serve(options: ServeOptions, log: Log): Promise<void> {
  const { host, path, env, command, args, workers } = options
  const url = parseBackendUrl(options.backend ?? `sqlite:${defaultFile([command, ...args])}`)
  if (isWorker()) return runWorker(options, url, log)
  if (workers > 1 && url.kind === 'memory') {
    throw new CommandError(`memory: is not shared by processes; with --workers use ${SHARED_BACKENDS}`, 2)
  }
  const problem = startProblem(command, env.PATH ?? inheritedEnv().PATH)
  if (problem !== undefined) throw new CommandError(problem)
  const backend = await openBackend(url)

  const stop = stopSignal().then((signal): Required<DrainOptions> => {
    log('mcp-roam: draining')
    return { notice: noticeAfter(signal, options), timeout: options.drainTimeout }
  })
  const logReady = (port: number, who: string) => {
    for (const warning of warnings(options)) log(`mcp-roam: WARNING: ${warning}`)
    log(`mcp-roam: ready at http://${urlHost(host)}:${port}${path}, ${who}, backend ${displayName(url)}`)
  }

  if (workers > 1) {
    // It was opened to see that it can be used; each worker opens its own.
    await backend.close?.()
    // With port 0 node:cluster would forget which one it chose whenever no worker listens.
    const port = options.port || (await freePort(host))
    await new WorkerPool(workers, { port, log }).run(stop, () => logReady(port, `${workers} workers`))
    return
  }
  const server = await startHttpServer(options, backend, log)
  try {
    logReady(server.port, `node ${server.nodeId}`)
    await server.drain(await stop)
  } finally {
    await server.close()
  }
}

/** What its user should know before anybody calls. */
function warnings({ host, encryptionKeysFile, secretFile, auth: { keys, keyFile, oauth } }: ServeOptions): string[] {
  const files = [keyFile, secretFile, encryptionKeysFile].filter((file) => file !== undefined)
  const open = keys.length === 0 && oauth === undefined && !isLoopback(host)
  return [
    ...(open
      ? [`no authentication: whoever reaches ${host} can start processes here (see --api-key-file, --issuer)`]
      : []),
    ...files.filter(isOpenToOthers).map((file) => `other users can read ${file}: chmod 600 it`),
  ]
}

/**
 * None after SIGINT: whoever pressed Ctrl-C does not want to wait. None on a loopback address either, where no load
 * balancer is expected.
 */
function noticeAfter(signal: 'SIGTERM' | 'SIGINT', { drainNotice, host }: ServeOptions): number {
  if (signal === 'SIGINT') return 0
  return drainNotice ?? (isLoopback(host) ? 0 : NOTICE)
}
