// What a browser remembers of one user, as JSON in localStorage. It may be full or
// forbidden; the page works without it.
import { place } from './place.js';

/** Memory of a user. All tabs of a browser share it; see store/tabs.js. */
export class Memory {
  constructor(user, storage = globalThis.localStorage) {
    this.user = user;
    this.storage = storage;
  }

  /** get returns what was set under a name, or otherwise. */
  get(name, otherwise = null) {
    try {
      return JSON.parse(this.storage.getItem(`burrow${place}.${name}.${this.user}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  }

  /** set remembers a value. */
  set(name, value) {
    try {
      this.storage.setItem(`burrow${place}.${name}.${this.user}`, JSON.stringify(value));
    } catch {
      // It is known for as long as the page is open.
    }
  }
}
