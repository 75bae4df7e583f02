/** A connection that is told of events while it reads the log. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { FetchHttpReply } from '../../src/http/fetch.js'
import { Connection } from '../../src/stream/connection.js'
import { StreamSession } from '../../src/stream/stream-session.js'
import { quiet } from '../harness/time.js'

test.each(Array.from({ length: 20 }, (_, turns) => turns))(
  '%i turns after it began to: the client gets them',
  async (turns) => {
    const { events: log } = memory()
    await log.open('s', 'stream', { head: '{}' })
    await log.attach('s', 'stream', 'node:1')
    let written = 0
    const connection = new Connection({
      log,
      session: new StreamSession('s', true),
      stream: 'stream',
      name: 'node:1',
      position: 0,
      sink: new FetchHttpReply().stream({}),
      maxBuffered: 1000,
      onclose: () => {},
      onwrote: () => written++,
      onmissing: async () => {},
      ongap: () => true,
      onregress: () => {},
    })
    connection.catchUp()
    for (let turn = 0; turn < turns; turn++) await undefined
    void log.append('s', 'stream', { id: 'batch', events: ['{}'] })
    connection.receive(1, ['{}'], false)
    await quiet()
    expect(connection.position).toBe(1)
    expect(written).toBe(1)
  },
)
