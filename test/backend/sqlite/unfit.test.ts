import Database from 'better-sqlite3'
import { sqlite } from '../../../src/backend/sqlite.js'
import { certifyUnfit, closing } from '../unfit.js'
import { newFile } from './files.js'

certifyUnfit('SQLite', async () => {
  const file = newFile()
  return {
    backend: closing(sqlite({ file })),
    async overwrite(id, text) {
      const db = new Database(file)
      const { changes } = db.prepare('UPDATE sessions SET record = ? WHERE id = ?').run(text, id)
      db.close()
      if (changes !== 1) throw new Error('nothing was stored')
    },
  }
})
