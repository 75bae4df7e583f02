/**
 * The names of everything that mcp-roam keeps in Redis. All keys of a session carry the same hash tag, so that a Redis Cluster
 * keeps them on one node and a script may touch them together.
 */

/** The names of all keys and channels with one prefix. */
export interface Keys {
  /** Hash: the record, its revision, and the session's state. */
  session(id: string): string
  /** String: says that the session was deleted. */
  deleted(id: string): string
  /** Sorted set: names of the session's streams, as they are in keys, by the time they expire. */
  streams(id: string): string
  /** Hash: how a stream stands. */
  stream(id: string, stream: string): string
  /** List: the events of a stream. */
  events(id: string, stream: string): string
  /** Hash: what each of a session's streams weighs, and all of them together. */
  weights(id: string): string
  /** Sorted set: names of the session's streams of which something may be dropped, in the order in which it goes. */
  spare(id: string): string
  /** Sorted set: ids of the newest batches of a stream without a writer, by the last position of each. */
  batches(id: string, stream: string): string
  /** Sorted set: ids of the nodes by the time from which they count as dead. */
  nodes: string
  /** The channel of a topic of the bus. */
  channel(topic: string): string
  /** The id in the name of a `session` key. */
  idOf(session: string): string
  /** The glob pattern of all `session` keys. */
  sessions: string
}

/**
 * The names for a prefix.
 *
 * @param keyPrefix What the user's client puts before each key; it becomes the beginning of the prefix.
 * @throws TypeError if the names would not work as hash tags.
 */
export function keysFor(ownPrefix: string, keyPrefix = ''): Keys {
  const prefix = `${keyPrefix}${ownPrefix}`
  if (typeof ownPrefix !== 'string' || /[{}]/.test(prefix)) {
    throw new TypeError(
      "redis: `prefix` must be a text such as 'mcp-roam', and neither it nor a client's `keyPrefix` may contain { or }, which say what a Redis Cluster keeps together",
    )
  }
  return {
    session: (id) => `${prefix}:session:{${tag(id)}}`,
    deleted: (id) => `${prefix}:deleted:{${tag(id)}}`,
    streams: (id) => `${prefix}:streams:{${tag(id)}}`,
    stream: (id, stream) => `${prefix}:standing:{${tag(id)}}:${wellFormed(stream)}`,
    events: (id, stream) => `${prefix}:log:{${tag(id)}}:${wellFormed(stream)}`,
    weights: (id) => `${prefix}:weights:{${tag(id)}}`,
    spare: (id) => `${prefix}:spare:{${tag(id)}}`,
    batches: (id, stream) => `${prefix}:batches:{${tag(id)}}:${wellFormed(stream)}`,
    nodes: `${prefix}:nodes`,
    channel: (topic) => `${prefix}:topic:${wellFormed(topic)}`,
    idOf: (session) => untagged(session.slice(`${prefix}:session:{`.length, -1)),
    sessions: `${prefix.replace(/[\\*?[\]^-]/g, '\\$&')}:session:{*}`,
  }
}

/** The id as a hash tag: without braces, which would end the tag early, and not empty, because Redis ignores an empty tag. */
function tag(id: string): string {
  return id === '' ? '%' : encode(id, /[%{}\ud800-\udfff]/gu)
}

function untagged(tag: string): string {
  return tag.replace(/%([\da-f]{4})?/g, (_, code?: string) =>
    code ? String.fromCharCode(Number.parseInt(code, 16)) : '',
  )
}

/** Text that can be sent as UTF-8. Half a surrogate pair cannot: without this, different texts would become the same key. */
export function wellFormed(text: string): string {
  return encode(text, /[%\ud800-\udfff]/gu)
}

function encode(text: string, characters: RegExp): string {
  return text.replace(characters, (character) => `%${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
