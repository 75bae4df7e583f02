import { memory } from '../../src/backend/memory.js'
import { record } from './record.js'
import { certifyUnfit, closing, STORABLE } from './unfit.js'

certifyUnfit(
  'memory',
  async () => {
    const backend = closing(memory())
    const overwrite = async (id: string, text: string) => {
      const stored = await backend.sessions.load(id)
      const revision = stored?.record.revision ?? 0
      // It keeps what the record is as JSON.
      const unfit = { ...record(id), revision, toJSON: () => JSON.parse(text) }
      if (!(await backend.sessions.update(unfit, revision, 60_000))) throw new Error('nothing was stored')
    }
    return { backend, overwrite }
  },
  STORABLE,
)
