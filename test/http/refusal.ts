/** What each refusal looks like, and what none of them may give away. */
import { expect } from 'vitest'
import type { Answer } from '../harness/reply.js'

/** What stores and hooks of these tests say in their errors. */
export const SECRET = 'hunter2'

export function expectRefusal(answer: Answer, status: number, code: number, id: string | number | null): void {
  expect(answer).toMatchObject({ status, body: { jsonrpc: '2.0', error: { code, message: expect.any(String) } } })
  expect(answer.body.id).toBe(id)
  expect(answer.headers['content-type']).toBe('application/json')
  expect(JSON.stringify(answer)).not.toContain(SECRET)
  // `@mastra/mcp` 1 gives up its session for any error that speaks of one.
  if (status >= 500) expect(answer.body.error.message).not.toMatch(/session/i)
}

/** For hooks and factories. */
export function fail(): never {
  throw new Error(`told in confidence: ${SECRET}`)
}
