/** What the official runner says of our fixture servers, on both SDK lines, with and without memory. */
import { afterEach, expect, test } from 'vitest'
import { SDKS, startServer, type TestServer } from '../harness/server.js'
import { runConformance } from './runner.js'

let server: TestServer | undefined

afterEach(async () => {
  await server?.kill()
  server = undefined
})

for (const sdk of SDKS) {
  for (const [how, amnesia] of [
    ['', false],
    [' whose every request meets a restored instance', true],
  ] as const) {
    test(`a ${sdk} server${how} conforms`, { timeout: 90_000 }, async () => {
      server = await startServer({ sdk, amnesia, backend: 'memory', options: { retryInterval: 50 } })
      const report = await runConformance(server.url)
      expect(report.complaints, `${report.text}\n${server.log}`).toEqual([])
      // All there are in this version of the runner; a run that stops early is not a pass.
      expect(report.scenarios).toHaveLength(32)
      const { fresh, restored } = await server.stats()
      if (amnesia) expect(restored).toBeGreaterThan(fresh)
      else expect(restored).toBe(0)
    })
  }
}
