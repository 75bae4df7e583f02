import type { SessionRecord } from '../../src/backend/backend.js'

export function record(id: string): SessionRecord {
  const initialize = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } }
  return {
    version: 1,
    id,
    revision: 1,
    createdAt: 0,
    principal: null,
    protocolVersion: '2025-11-25',
    journal: { initialize, initialized: true, subscriptions: [] },
  }
}
