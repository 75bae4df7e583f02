/**
 * A web `Request` that is built when one of its properties is first read. Line 2 of the SDK hands one to handlers with each
 * message; hardly any reads it, and building it costs more than the rest of a short call.
 */
export function lazyRequest(make: () => Request): Request {
  // TypeScript does not see the properties of Request, which the static block below defines.
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
