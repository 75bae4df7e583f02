/** Times and names on which the processes of a run agree. All times are in ms. */

/** A call whose key begins so stands still within its tool, and its whole process with it. */
export const BLOCKS = 'block-'
/** How long. */
export const BLOCK = 6000

/** What nodes tell clients to wait before they come back. */
export const RETRY_INTERVAL = 250

/** The notice is more than the balancer takes to see it; the calls made here all end within the timeout. */
export const DRAIN = { notice: 2500, timeout: 5000 }

/** How long a call may take after its fault is over: until a node counts as dead, is taken over, and the call is run again. */
export const BOUND = 20_000

/** For so long a node trusts what it knows of a session (docs/contract.md says five seconds), and a request may be on its way. */
export const STALENESS = 7000

/** After the end of a fault everybody is served again within this. */
export const RECOVERY_LIMIT = 10_000
/** And should be within this. */
export const RECOVERY_GOAL = 2000
