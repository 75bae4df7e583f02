import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { sqlite } from '../../src/backend/sqlite.js'
import { certify } from './contract.js'

const folder = mkdtempSync(join(tmpdir(), 'mcp-roam-sqlite-'))
afterAll(() => rmSync(folder, { recursive: true }))

const file = join(folder, 'shared.db')
certify('sqlite', async ({ retention }) => {
  const options = { file, ...(retention && { retention }) }
  const [backend, peer] = [sqlite(options), sqlite(options)]
  return { backend, peer, release: async () => void (await Promise.all([backend.close?.(), peer.close?.()])) }
})
