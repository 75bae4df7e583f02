/** Unified diffs, as far as documentation has them: whole lines, no file made or removed. */

interface Applied {
  from: string
  to: string
  /** What the diff makes of `from`. */
  result: string
}

/** Throws if the diff does not fit the file. An empty context line may lack its blank, which editors strip. */
export function applied(diff: string, read: (file: string) => string): Applied {
  const from = /^--- a\/(.+)$/m.exec(diff)?.[1]
  const to = /^\+\+\+ b\/(.+)$/m.exec(diff)?.[1]
  if (from === undefined || to === undefined) throw new Error('the diff does not name its files')
  const old = read(from).split('\n')
  const result: string[] = []
  let at = 0
  for (const line of diff.trimEnd().split('\n').slice(2)) {
    const start = /^@@ -(\d+)/.exec(line)?.[1]
    if (start !== undefined) {
      while (at < Number(start) - 1) result.push(old[at++] as string)
      continue
    }
    const text = line.slice(1)
    if (line.startsWith('+')) result.push(text)
    else {
      if (old[at] !== text) throw new Error(`${from}:${at + 1} is not what the diff says: ${text}`)
      if (!line.startsWith('-')) result.push(text)
      at++
    }
  }
  return { from, to, result: [...result, ...old.slice(at)].join('\n') }
}
