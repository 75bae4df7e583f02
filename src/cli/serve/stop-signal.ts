/** SIGTERM and SIGINT of `serve`. */

/** Resolves with the first of them. The second one ends the process at once, with the exit code that shells expect. */
export function stopSignal(): Promise<'SIGTERM' | 'SIGINT'> {
  return new Promise((resolve) => {
    let count = 0
    const onsignal = (name: string, number: number) => {
      if (++count > 1) process.exit(128 + number)
      resolve(name === 'SIGINT' ? 'SIGINT' : 'SIGTERM')
    }
    process.on('SIGTERM', onsignal)
    process.on('SIGINT', onsignal)
  })
}
