/** Server-sent events as they come (HTML standard, section 9.2.6), block by block: with what a client's library would swallow. */

/** What stands between two empty lines. An event, a priming event (an id, and data that is empty), a hint, or a comment. */
export interface SseBlock {
  id?: string
  event?: string
  retry?: number
  data?: string
  comment?: string
  /** The data of a message, which has no other event name: JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever was sent, to be compared
  message?: any
}

export class SseParser {
  /** What has come of a block that is not complete. */
  pending = ''

  /** The blocks that are complete with this. */
  push(text: string): SseBlock[] {
    const blocks = (this.pending + text).split('\n\n')
    this.pending = blocks.pop() ?? ''
    return blocks.map(parseBlock)
  }
}

function parseBlock(text: string): SseBlock {
  const block: SseBlock = {}
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    const field = line.slice(0, colon)
    const value = line.slice(colon + 1).replace(/^ /, '')
    if (field === '') block.comment = value
    else if (field === 'retry') block.retry = Number(value)
    else if (field === 'data') block.data = block.data === undefined ? value : `${block.data}\n${value}`
    else if (field === 'id' || field === 'event') block[field] = value
    else throw new Error(`not SSE: ${line}`)
  }
  if (block.data && (block.event ?? 'message') === 'message') block.message = JSON.parse(block.data)
  return block
}

/** A hint to come back that is spread: from the interval to half as much again. To be compared with by `expect`. */
export function spreadFrom(interval: number) {
  return {
    asymmetricMatch: (retry: unknown) => typeof retry === 'number' && retry >= interval && retry <= interval * 1.5,
    toString: () => `from ${interval} to ${interval * 1.5}`,
  }
}
