/**
 * Messages between nodes, sealed: one that is forged, that was sent to another topic, or that has come before is dropped.
 *
 * A message is `<sender>.<envelope>`. Each process that sends has an id of its own, and keys derived for it. Inside stand the
 * number of the message, counted by its sender over all topics, and the time at which it was sent. A message is too old after
 * {@link MAX_AGE}; which ones have come is remembered for as long.
 */
import { randomBytes } from 'node:crypto'
import type { MessageBus } from '../backend.js'
import { Unreadable } from '../unavailable.js'
import { type Box, isSealed, type Keyring } from './keyring.js'
import { Window } from './replays.js'

/** How old a message may be, and how far the clocks of two nodes may be apart, in ms. */
const MAX_AGE = 5 * 60_000
/** How many messages one sender may send under its name, which is that of its key. */
const MAX_SENT = 2 ** 31
/** Senders that are remembered at once. Only who has a key becomes one. */
const MAX_SENDERS = 10_000
/** Messages remembered that have come to one of several subscriptions of their topic on this node, and not yet to the others. */
const MAX_OWED = 1000
/** How often dropped messages are reported, in ms. */
const REPORT_INTERVAL = 10_000

const SENDER_BYTES = 12
const SENDER_LENGTH = 16
const MESSAGE = 'a message on the bus'

interface Sender {
  box: Box
  window: Window
  /** When the newest of its messages is too old, in ms since the epoch. */
  until: number
}

interface Subscription {
  readonly topic: string
}

/** @param now The time of day, in ms since the epoch. */
export function sealedBus(
  bus: MessageBus,
  keyring: Keyring,
  onerror: (error: Error) => void,
  now: () => number = Date.now,
): MessageBus {
  const sealer = new Sealer(keyring, now)
  const opener = new Opener(keyring, now)
  const dropped = new Dropped(onerror)

  return {
    publish: async (topic, message) => bus.publish(topic, keyring.writesPlain ? message : sealer.seal(topic, message)),

    async subscribe(topic, listener) {
      const own: Subscription = { topic }
      opener.add(own)
      const unsubscribe = await bus
        .subscribe(topic, (text) => {
          let message: string | undefined
          try {
            message = opener.open(own, text)
          } catch (error) {
            dropped.note(error as Error)
            return
          }
          if (message !== undefined) listener(message)
        })
        .catch((error: unknown) => {
          opener.remove(own)
          throw error
        })
      return () => {
        opener.remove(own)
        return unsubscribe()
      }
    },

    beat: (node, ttl) => bus.beat(node, ttl),
    leave: (node) => bus.leave(node),
    nodes: () => bus.nodes(),
    ...(bus.isGone && { isGone: (node) => bus.isGone?.(node) ?? Promise.resolve(false) }),
  }
}

class Sealer {
  #sender = ''
  #box: Box | undefined
  #sent = 0

  constructor(
    private readonly keyring: Keyring,
    private readonly now: () => number,
  ) {}

  seal(topic: string, message: string): string {
    if (!this.#box || this.#sent === MAX_SENT) {
      this.#sender = randomBytes(SENDER_BYTES).toString('base64url')
      this.#box = this.keyring.box('bus', this.#sender)
      this.#sent = 0
    }
    const text = `${this.#sent++} ${this.now()} ${message}`
    return `${this.#sender}.${this.#box.seal(['message', topic], text)}`
  }
}

class Opener {
  /** By topic, as long as somebody here is subscribed. */
  readonly #subscriptions = new Map<string, Set<Subscription>>()
  readonly #senders = new Map<string, Sender>()
  /** By message: the subscriptions of its topic that it has not come to yet. */
  readonly #owed = new Map<string, Set<Subscription>>()

  constructor(
    private readonly keyring: Keyring,
    private readonly now: () => number,
  ) {}

  add(subscription: Subscription): void {
    const all = this.#subscriptions.get(subscription.topic) ?? new Set()
    this.#subscriptions.set(subscription.topic, all.add(subscription))
  }

  remove(subscription: Subscription): void {
    const all = this.#subscriptions.get(subscription.topic)
    if (all?.delete(subscription) && all.size === 0) this.#subscriptions.delete(subscription.topic)
  }

  /**
   * The message in a text that has come for a subscription; undefined: the subscription has ended.
   *
   * @throws Unreadable if it must not be used.
   */
  open(subscription: Subscription, text: string): string | undefined {
    const { topic } = subscription
    if (!this.#subscriptions.get(topic)?.has(subscription)) return undefined
    const name = text.slice(0, SENDER_LENGTH)
    const envelope = text.slice(SENDER_LENGTH + 1)
    if (text[SENDER_LENGTH] !== '.' || !isSealed(envelope)) {
      this.keyring.checkPlain(MESSAGE)
      return text
    }
    const known = this.#senders.get(name)
    const box = known?.box ?? this.keyring.box('bus', name)
    const { number, time, message } = parse(box.open(['message', topic], envelope, MESSAGE))
    if (Math.abs(this.now() - time) > MAX_AGE) {
      throw new Unreadable(
        `${MESSAGE} is more than ${MAX_AGE / 60_000} minutes away from the clock of this node: it was recorded and sent again, or the clocks of the nodes differ`,
      )
    }
    const sender = known ?? this.#remember(name, box)
    sender.until = Math.max(sender.until, time + MAX_AGE)
    if (!this.#isNew(subscription, sender, `${name} ${number}`, number)) {
      throw new Unreadable(`${MESSAGE} has come before`)
    }
    return message
  }

  /** The bus hands a message to each subscription of its topic, which is not to be taken for a repetition. */
  #isNew(subscription: Subscription, { window }: Sender, id: string, number: number): boolean {
    if (!window.take(number)) return this.#owed.get(id)?.delete(subscription) ?? false
    const others = new Set(this.#subscriptions.get(subscription.topic))
    others.delete(subscription)
    if (others.size === 0) return true
    this.#owed.set(id, others)
    const [oldest] = this.#owed.keys()
    if (this.#owed.size > MAX_OWED && oldest !== undefined) this.#owed.delete(oldest)
    return true
  }

  #remember(name: string, box: Box): Sender {
    for (const [other, { until }] of this.#senders) if (until < this.now()) this.#senders.delete(other)
    const [oldest] = this.#senders.keys()
    if (this.#senders.size >= MAX_SENDERS && oldest !== undefined) this.#senders.delete(oldest)
    const sender = { box, window: new Window(), until: 0 }
    this.#senders.set(name, sender)
    return sender
  }
}

/** Reports dropped messages, at a bounded pace: whoever may write to the bus may write as much as they like. */
class Dropped {
  #total = 0
  #unreported = 0
  #last: Error | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly onerror: (error: Error) => void) {}

  note(error: Error): void {
    this.#total++
    this.#unreported++
    this.#last = error
    if (!this.#timer) this.#report()
  }

  #report(): void {
    this.#timer = undefined
    if (this.#unreported === 0) return
    const [count, cause] = [this.#unreported, this.#last]
    this.#unreported = 0
    this.#timer = setTimeout(() => this.#report(), REPORT_INTERVAL)
    this.#timer.unref()
    this.onerror(
      new Error(`the bus: messages that were dropped: ${count} (${this.#total} since the start): ${cause?.message}`, {
        cause,
      }),
    )
  }
}

function parse(text: string): { number: number; time: number; message: string } {
  const [number = '', time = ''] = text.split(' ', 2)
  return { number: Number(number), time: Number(time), message: text.slice(number.length + time.length + 2) }
}
