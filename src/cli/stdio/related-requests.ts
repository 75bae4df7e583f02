/**
 * Which of the client's requests a message of a stdio server belongs to.
 *
 * Over HTTP messages that belong to a request are sent on the stream of that request, all others on the standalone stream
 * (2025-11-25, basic/transports, "Sending Messages to the Server" and "Listening for Messages from the Server"). A stdio
 * server has one pipe and does not say which request a message belongs to. It is found out from the messages:
 *
 * - progress belongs to the running request that gave its token (basic/utilities/progress);
 * - a message with `related-task` in its `_meta` belongs to the `tasks/result` that waits for that task
 *   (basic/utilities/tasks, "Associating Task-Related Messages");
 * - the server's `cancelled` belongs where the request belonged that it cancels;
 * - notifications about the session as a whole (changed lists, resources, tasks) belong to no request;
 * - any other message (logging, sampling, elicitation, roots) belongs to the running request, if there is exactly one.
 *
 * If several are running, the message is sent on the standalone stream. A guess could send it on the stream of a request
 * that the client no longer waits for, where nobody reads it; on the standalone stream it waits for the client.
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
  /** The client's requests that the server has not answered yet. */
  readonly #running = new Map<RequestId, Running>()
  /** The server's requests that the client has not answered yet, each with the client's request that it belongs to. */
  readonly #asked = new Map<RequestId, RequestId | undefined>()

  /** To be called with each message to the server. */
  fromClient(message: JSONRPCMessage): void {
    if (isRequest(message)) {
      // No message belongs to a ping. Not counting it keeps a call the only running request while a ping comes in.
      if (message.method === 'ping') return
      const { params } = message
      this.#running.set(message.id, {
        progressToken: isObject(params?._meta) ? params._meta.progressToken : undefined,
        task: message.method === 'tasks/result' ? params?.taskId : undefined,
      })
    } else if (isNotification(message)) {
      // A server does not answer a cancelled request (basic/utilities/cancellation, "Behavior Requirements").
      if (message.method === 'notifications/cancelled') forget(this.#running, message.params?.requestId)
    } else {
      forget(this.#asked, message.id)
    }
  }

  /** To be called with each message of the server: the request it belongs to; undefined for a response, or if there is none. */
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
