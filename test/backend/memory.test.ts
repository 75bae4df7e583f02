import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { certify, certifyTimes } from './contract.js'
import { record } from './record.js'

certify('memory', async (needs) => ({ backend: memory(needs) }))

certifyTimes((now) => memory({ now }))

it('what has expired is freed, though nobody asks for it again', async () => {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  const used = () => {
    collect()
    return process.memoryUsage().heapUsed
  }
  let time = 0
  const { sessions, events } = memory({ now: () => time, retention: { ttl: 10 } })
  // As JSON, because that is no string which shares its characters with another.
  const padding = (index: number) => JSON.stringify('.'.repeat(50_000) + index)
  const before = used()
  await events.open('long', 'first', { head: '0' })
  for (let index = 0; index < 1000; index++) {
    const id = `s${index}`
    time++
    await sessions.create({ ...record(id), principal: padding(index) }, 10)
    for (const session of [id, 'long']) {
      await events.open(session, id, { head: '0' })
      await events.append(session, id, { id: 'b', events: [padding(index)] })
    }
  }
  // 150 MB went in.
  expect(used() - before).toBeLessThan(15_000_000)
  // Both are used here, so that they are not collected as a whole before.
  expect((await events.read('long', 's999', 0, 1))?.last).toBe(1)
  expect((await sessions.load('s999'))?.record.id).toBe('s999')
})
