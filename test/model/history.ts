/** How each history begins and ends. */
import type { Model } from './model.js'
import { TOOLS } from './server.js'
import { openQuestions, pick } from './steps.js'
import type { SimulatedNode, World } from './world.js'

/** Both clients have a session, through different nodes. */
export async function initializeBoth(model: Model, world: World): Promise<void> {
  for (const [index, client] of model.clients.entries()) client.initialize(world.nodes[index] as SimulatedNode)
  await model.pass(300)
  for (const client of model.clients) client.initializedNow(world.nodes[2] as SimulatedNode)
  await model.pass(300)
}

/** Everything is well again, and clients follow what they began: each request ends, and nothing is left over. */
export async function conclude(model: Model, world: World): Promise<void> {
  const { network, clock, deeds } = world
  Object.assign(network, { store: 'none', loss: 0, duplication: 0 })
  network.cutOff.clear()
  for (const node of world.nodes) world.resume(node)
  await model.pass(500)
  for (const node of world.nodes) if (node.state === 'down') world.restart(node)
  const up = () => world.nodes.filter(({ state }) => state === 'up')
  let turn = 0
  for (let round = 0; round < 80 && model.clients.some((client) => client.pending.length > 0); round++) {
    for (const client of model.clients) {
      for (const one of client.pending) if (!one.connection) client.resume(pick(up(), turn++), one)
      for (const question of openQuestions(client)) client.answer(pick(up(), turn++), question)
    }
    await model.pass(500)
  }
  for (const client of model.clients) {
    const { session } = client
    for (const one of client.pending)
      model.violations.push(`client ${client.name}: call ${one.id} (${one.tool}) never ended`)
    const written = new Map<unknown, number>()
    for (const { session: of, call: id, tool } of deeds.started) {
      if (of === session && !TOOLS[tool].safe) written.set(id, (written.get(id) ?? 0) + 1)
    }
    for (const [id, times] of written) {
      if (times > 1) model.violations.push(`client ${client.name}: call ${String(id)} was carried out ${times} times`)
    }
    if (session === undefined || client.life.deletedAt === undefined) continue
    if (await network.truth.sessions.load(session)) model.violations.push(`client ${client.name}: deleted, and back`)
  }
  model.check()
  for (const client of model.clients) client.standalone?.drop()
  await clock.pass(30_000)
  for (const client of model.clients) {
    const { session, life } = client
    if (life.deletedAt === undefined) continue
    const left = deeds.instances.filter(
      ({ context, closed, owner }) => context.session.id === session && !closed && !owner.dead,
    )
    if (left.length > 0) model.violations.push(`client ${client.name}: deleted, and ${left.length} instances live on`)
    const running = deeds.running(session as string)
    if (running.length > 0)
      model.violations.push(`client ${client.name}: deleted, and ${running.map(({ tool }) => tool)} run`)
  }
  for (const { state, name, handler, owner } of world.nodes) {
    if (state !== 'up') continue
    let status: Awaited<ReturnType<typeof handler.status>> | undefined
    clock.as(
      owner,
      () =>
        void handler.status().then((answer) => {
          status = answer
        }),
    )
    await clock.pass(100)
    const busy = deeds.started.filter((one) => one.owner === owner && !one.ended).length
    if (status?.openStreams !== 0) model.violations.push(`${name}: ${status?.openStreams} streams open, nobody there`)
    if (busy === 0 && status?.liveSessions !== 0)
      model.violations.push(`${name}: ${status?.liveSessions} sessions live, nothing runs`)
  }
  model.check()
}
