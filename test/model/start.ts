/** How each history begins. */
import type { Model } from './commands.js'
import type { SimulatedNode, World } from './world.js'

/** Both clients have a session, through different nodes. */
export async function initializeBoth(model: Model, world: World): Promise<void> {
  for (const [index, client] of model.clients.entries()) client.initialize(world.nodes[index] as SimulatedNode)
  await model.pass(300)
  for (const client of model.clients) client.initializedNow(world.nodes[2] as SimulatedNode)
  await model.pass(300)
}
