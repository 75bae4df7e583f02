import type { MessageBus } from '../backend.js'
import { type Clock, ExpiringMap } from './expiring-map.js'

export function messageBus(now: Clock): MessageBus {
  const topics = new Map<string, Set<(message: string) => void>>()
  const nodes = new ExpiringMap<true>(now)

  return {
    async publish(topic, message) {
      // Listeners run after the publisher has gone on, as they would across a network.
      for (const listener of topics.get(topic) ?? []) {
        queueMicrotask(() => {
          if (topics.get(topic)?.has(listener)) listener(message)
        })
      }
    },

    async subscribe(topic, listener) {
      // A function of its own for each subscription: the same listener may be subscribed twice.
      const own = (message: string) => listener(message)
      const listeners = topics.get(topic) ?? new Set()
      topics.set(topic, listeners.add(own))
      return async () => {
        listeners.delete(own)
        if (listeners.size === 0 && topics.get(topic) === listeners) topics.delete(topic)
      }
    },

    async beat(node, ttl) {
      nodes.set(node, true, ttl)
    },

    async leave(node) {
      nodes.delete(node)
    },

    async nodes() {
      return nodes.keys().filter((node) => nodes.get(node))
    },
  }
}
