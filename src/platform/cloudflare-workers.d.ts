/** The part of workerd's own module that we use: https://developers.cloudflare.com/workers/runtime-apis/bindings/service-bindings/rpc/ */
declare module 'cloudflare:workers' {
  export class WorkerEntrypoint<Env> {
    protected env: Env
    protected ctx: import('hono').ExecutionContext
  }
}
