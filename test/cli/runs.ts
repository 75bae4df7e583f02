/** `mcp-roam` processes, clients and a folder of one test file, which end with each test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { type ClientOptions, connectClient, type TestClient } from '../harness/client.js'
import type { Sdk } from '../harness/server.js'
import { Cli, type RunOptions } from './served.js'

export interface Runs {
  readonly folder: string
  run(args: string[], options?: RunOptions): Cli
  /** Runs it to its end. */
  ends(args: string[], options?: RunOptions): Promise<{ code: number | null; stdout: string; says: string }>
  connect(url: string, sdk?: Sdk, options?: ClientOptions): Promise<TestClient>
}

export function runs(): Runs {
  const processes: Cli[] = []
  const clients: TestClient[] = []
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mcp-roam-cli-'))
  })
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()))
    // In an orderly way, so that their children end, too.
    await Promise.all(
      processes.splice(0).map(async (cli) => {
        cli.signal('SIGTERM')
        // Another one, because two of a kind may arrive as one.
        cli.signal('SIGINT')
        await cli.exit()
      }),
    )
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  })
  const run = (args: string[], options?: RunOptions) => {
    const cli = new Cli(args, options)
    processes.push(cli)
    return cli
  }
  return {
    get folder() {
      return folder
    },
    run,
    async ends(args, options) {
      const cli = run(args, options)
      const code = await cli.exit()
      return { code, stdout: cli.stdout, says: cli.log }
    },
    async connect(url, sdk = 'v1', options = {}) {
      const client = await connectClient(sdk, url, options)
      clients.push(client)
      return client
    },
  }
}
