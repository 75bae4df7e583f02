/** How each server that is measured is made. */
import type { RequestListener } from 'node:http'
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { bare } from './bare.js'
import { ceiling } from './ceiling.js'
import { echoV1, echoV2 } from './echo.js'
import type { ServerName } from './names.js'
import { sdk } from './sdk.js'

const sdkV1 = (json: boolean) =>
  sdk(json, async (options) => {
    const transport = new StreamableHTTPServerTransport(options)
    await echoV1().connect(transport)
    return transport
  })

const sdkV2 = (json: boolean) =>
  sdk(json, async (options) => {
    const transport = new NodeStreamableHTTPServerTransport(options)
    await echoV2().connect(transport)
    return transport
  })

// Only a server that is mcp-roam loads mcp-roam.
const roam = async (...args: Parameters<typeof import('./roam.js').roam>) => (await import('./roam.js')).roam(...args)

/** Makes the listener of one server; `file` is where it may keep a database. */
export const KINDS: Record<ServerName, (file: string) => RequestListener | Promise<RequestListener>> = {
  bare: () => bare,
  'ceiling-v1': () => ceiling((transport) => echoV1().connect(transport)),
  'sdk-v1': () => sdkV1(false),
  'sdk-json-v1': () => sdkV1(true),
  'roam-memory-v1': () => roam(echoV1, undefined),
  'roam-sqlite-v1': (file) => roam(echoV1, file),
  'ceiling-v2': () => ceiling((transport) => echoV2().connect(transport)),
  'sdk-v2': () => sdkV2(false),
  'sdk-json-v2': () => sdkV2(true),
  'roam-memory-v2': () => roam(echoV2, undefined),
  'roam-sqlite-v2': (file) => roam(echoV2, file),
}
