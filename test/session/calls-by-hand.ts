import type { Script } from '../harness/scripted-server.js'
import { deferred } from '../harness/time.js'

/** Answers each `tools/call` when the test says so. */
export function callsByHand() {
  const running: ReturnType<typeof deferred<Record<string, unknown>>>[] = []
  const script: Script = {
    'tools/call': () => {
      const answer = deferred<Record<string, unknown>>()
      running.push(answer)
      return answer.promise
    },
  }
  return { script, running }
}
