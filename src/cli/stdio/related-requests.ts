/**
 * Which of the client's requests a message of a stdio server belongs to.
 *
 * Over HTTP the messages that belong to a request travel on that request's own stream, and the rest on the standalone one.
 * A stdio server has one pipe and says nothing about it, so this is worked out from what the protocol tells:
 *
 * - progress belongs to the running request that gave its token;
 * - what a task sends (`related-task` in its `_meta`) belongs to the `tasks/result` that waits for that task;
 * - a server's `cancelled` goes where the request that it takes back went;
 * - news about the session as a whole (lists that changed, resources, tasks) belongs to no request;
 * - anything else (log messages, sampling, elicitation, roots) belongs to the request that is running, if only one is.
 *
 * With several running there is no telling, and the message takes the standalone stream, where every client that
 * listens to its server at all receives it. Guessing would be worse: the stream of a call that its client gave up on is
 * read by nobody, while a message on the standalone stream waits there for the client.
 */
import {
  isNotification,
  isObject,
  isRequest,
  isRequestId,
  type JSONRPCMessage,
  type RequestId,
} from '../../wire/jsonrpc.js'

const RELATED_TASK = 'io.modelcontextprotocol/related-task'

const ABOUT_THE_SESSION: ReadonlySet<string> = new Set([
  'notifications/tools/list_changed',
  'notifications/prompts/list_changed',
  'notifications/resources/list_changed',
  'notifications/resources/updated',
  'notifications/tasks/status',
  'notifications/elicitation/complete',
])

interface Running {
  progressToken: unknown
  /** The task that a `tasks/result` waits for. */
  task: unknown
}

export class RelatedRequests {
  /** The client's requests that the server has not answered. */
  readonly #running = new Map<RequestId, Running>()
  /** The server's requests that the client has not answered, and where they went. */
  readonly #asked = new Map<RequestId, RequestId | undefined>()

  /** Takes note of a message on its way to the server. */
  fromClient(message: JSONRPCMessage): void {
    if (isRequest(message)) {
      // Nothing ever belongs to a ping; without it, one that comes between does not blur what belongs to a call.
      if (message.method === 'ping') return
      const { params } = message
      this.#running.set(message.id, {
        progressToken: isObject(params?._meta) ? params._meta.progressToken : undefined,
        task: message.method === 'tasks/result' ? params?.taskId : undefined,
      })
    } else if (isNotification(message)) {
      // A server does not answer what was cancelled.
      if (message.method === 'notifications/cancelled') forget(this.#running, message.params?.requestId)
    } else {
      forget(this.#asked, message.id)
    }
  }

  /** The request that a message on its way to the client belongs to; undefined: to none, or it is an answer itself. */
  fromServer(message: JSONRPCMessage): RequestId | undefined {
    if (isRequest(message)) {
      const related = this.#byTask(message.params) ?? this.#only()
      this.#asked.set(message.id, related)
      return related
    }
    if (!isNotification(message)) {
      forget(this.#running, message.id)
      return undefined
    }
    const { method, params } = message
    if (method === 'notifications/progress') return this.#find('progressToken', params?.progressToken)
    if (method === 'notifications/cancelled') {
      const id = params?.requestId
      if (!isRequestId(id)) return undefined
      const related = this.#asked.get(id)
      this.#asked.delete(id)
      return related !== undefined && this.#running.has(related) ? related : undefined
    }
    if (ABOUT_THE_SESSION.has(method)) return undefined
    return this.#byTask(params) ?? this.#only()
  }

  #byTask(params: { [key: string]: unknown } | undefined): RequestId | undefined {
    const related = isObject(params?._meta) ? params._meta[RELATED_TASK] : undefined
    return isObject(related) ? this.#find('task', related.taskId) : undefined
  }

  #find(key: keyof Running, value: unknown): RequestId | undefined {
    if (value === undefined) return undefined
    for (const [id, running] of this.#running) if (running[key] === value) return id
    return undefined
  }

  #only(): RequestId | undefined {
    if (this.#running.size !== 1) return undefined
    const [id] = this.#running.keys()
    return id
  }
}

function forget(map: Map<RequestId, unknown>, id: unknown): void {
  if (isRequestId(id)) map.delete(id)
}
