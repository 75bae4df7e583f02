import { expect, it } from 'vitest'
import { redis } from '../../../src/backend/redis.js'
import { serve, sessionIds } from '../../harness/serve.js'
import { openSession } from '../../harness/wire-client.js'
import { describeWith, redisUrl, unique } from '../../services/use.js'
import { certifyUnfit, closing } from '../unfit.js'
import { connection } from './fixture.js'

describeWith('Redis', await redisUrl(), (url) => {
  const open = async () => {
    const prefix = unique()
    const backend = closing(redis({ url, prefix }))
    const client = connection(url)
    const overwrite = async (id: string, text: string) => {
      if ((await client.hset(`${prefix}:session:{${id}}`, 'record', text)) !== 0) throw new Error('nothing was stored')
    }
    return { backend, overwrite, client, prefix }
  }
  certifyUnfit('Redis', open)

  it('a session whose record is missing is there all the same', async () => {
    const { backend, client, prefix } = await open()
    const handler = serve(undefined, { backend })
    const { sessionId } = await openSession(handler)
    await client.hdel(`${prefix}:session:{${sessionId}}`, 'record')
    const other = serve(undefined, { backend })
    await expect(other.sessions.get(sessionId)).rejects.toThrow('not the record of this session')
    expect(await sessionIds(other)).toEqual([])
    expect(await other.sessions.delete(sessionId)).toBe(true)
  })
})
