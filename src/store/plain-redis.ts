/** The client of Upstash on a transport of our own. */
import { Redis } from '@upstash/redis'

/** Gives answers as they are; by itself it would turn those that look like JSON into values. */
export class PlainRedis extends Redis {
  protected override opts = { automaticDeserialization: false }
}
