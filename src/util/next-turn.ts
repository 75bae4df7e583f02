/** Lets the event loop do what else there is to do, before work goes on that would block it in one piece. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
