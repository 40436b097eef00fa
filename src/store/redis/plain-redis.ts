/** The Upstash client on our own transport. */
import { Redis } from '@upstash/redis'

/** Returns answers unchanged. By default the client parses answers that look like JSON. */
export class PlainRedis extends Redis {
  protected override opts = { automaticDeserialization: false }
}
