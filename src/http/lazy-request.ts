/**
 * A web `Request` that is only built when something looks at it. Handlers of the v2 SDK line are handed one with each
 * message, hardly any reads it, and building it costs more than the rest of a short call.
 */
export function lazyRequest(make: () => Request): Request {
  // its accessors are those of Request, taken from Request.prototype below
  return new LazyRequest(make) as unknown as Request
}

class LazyRequest {
  #make: () => Request
  #made: Request | undefined

  constructor(make: () => Request) {
    this.#make = make
  }

  static {
    Object.setPrototypeOf(LazyRequest.prototype, Request.prototype)
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(Request.prototype))) {
      if (name === 'constructor') continue
      Object.defineProperty(LazyRequest.prototype, name, {
        configurable: true,
        enumerable: property.enumerable ?? false,
        get(this: LazyRequest) {
          this.#made ??= this.#make()
          const value: unknown = Reflect.get(this.#made, name, this.#made)
          return typeof value === 'function' ? value.bind(this.#made) : value
        },
      })
    }
  }
}
