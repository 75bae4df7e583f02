/** What the node that writes a stream tells those where it is followed: that events were appended. Both ends of it. */
import type { News } from '../cluster/news.js'
import { isObject } from '../wire/jsonrpc.js'

/** May be lost: the log has it all. */
export interface StreamNews {
  stream: string
  /** Position of the first event. */
  first: number
  /** Left out if they are many or big. */
  events?: readonly string[]
  ended: boolean
}

/** Events up to this many characters travel with the news of them; bigger ones are read from the log. */
const NEWS_LIMIT = 4096

export function tellAppended(
  news: News,
  session: string,
  { events, ...appended }: StreamNews & { events: readonly string[] },
): void {
  const size = events.reduce((sum, event) => sum + event.length, 0)
  news.tell(session, size <= NEWS_LIMIT ? { ...appended, events } : appended)
}

/** Resolves when news of the session's streams will arrive; with the way to end that. */
export function followAppended(
  news: News,
  session: string,
  listener: (appended: StreamNews) => void,
): Promise<() => void> {
  return news.follow(session, (told) => {
    if (!isStreamNews(told)) return false
    listener(told)
    return true
  })
}

function isStreamNews(told: unknown): told is StreamNews {
  if (!isObject(told)) return false
  const { stream, first, events, ended } = told
  const isEvents = Array.isArray(events) && events.every((event) => typeof event === 'string')
  return (
    typeof stream === 'string' &&
    Number.isSafeInteger(first) &&
    (events === undefined || isEvents) &&
    typeof ended === 'boolean'
  )
}
