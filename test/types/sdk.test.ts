/** Both SDK lines fit without a cast; what this file says is checked by the compiler. */

import type { AuthInfo as AuthInfoV1 } from '@modelcontextprotocol/sdk/server/auth/types.js'
import { Server as ServerV1 } from '@modelcontextprotocol/sdk/server/index.js'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { Transport as TransportV1 } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  type AuthInfo as AuthInfoV2,
  McpServer as McpServerV2,
  Server as ServerV2,
  type Transport as TransportV2,
} from '@modelcontextprotocol/server'
import { expect, test } from 'vitest'
import { type AuthInfo, createSessionHandler, type ServerInstance, SessionTransport } from '../../src/index.js'

const info = { name: 'typed', version: '1' }

test('servers of both lines are server instances', () => {
  const servers: ServerInstance[] = [
    new McpServerV1(info),
    new ServerV1(info, { capabilities: {} }),
    new McpServerV2(info),
    new ServerV2(info, { capabilities: {} }),
  ]
  createSessionHandler(() => new McpServerV1(info))
  createSessionHandler(async () => new McpServerV2(info))
  expect(servers).toHaveLength(4)
})

test('the transport by itself connects to servers of both lines', async () => {
  const v1: TransportV1 = new SessionTransport()
  const v2: TransportV2 = new SessionTransport()
  await new McpServerV1(info).connect(v1)
  await new McpServerV2(info).connect(v2)
  await new McpServerV1(info).connect(new SessionTransport())
  await new McpServerV2(info).connect(new SessionTransport())
})

test('auth info of both lines is ours', () => {
  const given = { token: 't', clientId: 'c', scopes: [] }
  const v1: AuthInfoV1 = given
  const v2: AuthInfoV2 = given
  const ours: AuthInfo[] = [v1, v2]
  expect(ours).toHaveLength(2)
})
