/** What a node asks another one when a newer connection follows a stream: that the older one ends, and how far it got. */
import { isObject } from '../wire/jsonrpc.js'

export const SUBJECT = 'connection'

export interface ReplacedQuestion {
  /** A newer connection follows this stream: those here end, if they are not newer still. */
  replaced: string
  /** The number of the newest one that ends. */
  upTo: number
}

/** The position up to which the connection that ended had sent its stream. */
export interface ReplacedAnswer {
  position: number
}

export function isReplacedQuestion(question: unknown): question is ReplacedQuestion {
  return isObject(question) && typeof question.replaced === 'string' && Number.isSafeInteger(question.upTo)
}

export function positionOf(answer: unknown): number | undefined {
  return isObject(answer) && Number.isSafeInteger(answer.position) ? (answer.position as number) : undefined
}
