/** SQLite files of one test file, removed when it is done. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

export const folder = mkdtempSync(join(tmpdir(), 'mcp-roam-sqlite-'))
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
export const newFile = (): string => join(folder, `${++files}.db`)
