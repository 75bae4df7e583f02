/** Which of a Redis Cluster's 16,384 hash slots a key or a channel is in. */

/** CRC-16/XMODEM, as the Redis Cluster specification has it, of what stands between the first `{` and the next `}`, or of all. */
export function slotOf(name: string): number {
  const tag = /^[^{]*\{([^}]+)\}/.exec(name)?.[1] ?? name
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
    crc &= 0xffff
  }
  return crc % 16_384
}
