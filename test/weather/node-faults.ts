/** What happens to nodes, whatever their store. */

import { randomUUID } from 'node:crypto'
import { urlDoor } from '../harness/door.js'
import { openSession } from '../harness/wire-client.js'
import { type Fault, type Stage, seconds } from './fault.js'
import { BLOCK, BLOCKS } from './terms.js'

const freeze = async ({ victim, balancer }: Stage, time: number) => {
  victim.pause()
  await seconds(time)
  victim.resume()
  await balancer.takes(victim.origin)
}

const cutOff = async ({ victim, balancer }: Stage, time: number) => {
  for (const link of victim.links) link.swallow()
  await seconds(time)
  for (const link of victim.links) link.mend()
  await balancer.takes(victim.origin)
}

export const NODE_FAULTS: readonly Fault[] = [
  {
    name: 'nodes killed, three times',
    allows: ['cut', 'unknown'],
    async strike({ nodes, balancer, random }) {
      for (let times = 3; times > 0; times--) {
        const victim = random.pick(nodes.all)
        await victim.kill()
        await seconds(random.between(0, 2))
        await victim.start()
        await balancer.takes(victim.origin)
        await seconds(random.between(0, 1))
      }
    },
  },
  { name: 'node frozen 3 s', strike: (stage) => freeze(stage, 3) },
  {
    name: 'node frozen 8 s, its connections cut',
    allows: ['cut', 'unknown'],
    async strike(stage) {
      stage.balancer.shutdownSessions = true
      await freeze(stage, 8)
      stage.balancer.shutdownSessions = false
    },
  },
  {
    name: 'node blocked by a tool',
    allows: ['unknown'],
    async strike({ victim, balancer }) {
      const client = await openSession(urlDoor(`${victim.origin}/mcp`, 2 * BLOCK))
      const args = { key: BLOCKS + randomUUID(), steps: 0, ms: 0 }
      await client.request('tools/call', { name: 'short', arguments: args })
      await balancer.takes(victim.origin)
    },
  },
  {
    name: 'node drained and started again',
    async strike({ victim, balancer }) {
      await victim.terminate()
      await victim.start()
      await balancer.takes(victim.origin)
    },
  },
]

/** What happens on the way from a node to the servers of its store. */
export const LINK_FAULTS: readonly Fault[] = [
  { name: 'node cut off 2 s', strike: (stage) => cutOff(stage, 2) },
  { name: 'node cut off 8 s', allows: ['unknown'], strike: (stage) => cutOff(stage, 8) },
]
