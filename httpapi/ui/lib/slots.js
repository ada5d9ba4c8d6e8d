// How many tabs of a browser hold a request open: a browser has six connections to a host over HTTP/1.1,
// and the others must be left for messages and for the page.

const SLOTS = 2;
const LEASE = 150_000; // ms; a hidden tab's timers run once a minute
const RENEW = 30_000; // ms
const KEY = 'burrow.streams'; // of the host: the browser counts connections by host, not by path or user

/** Slots of a browser, as leases in localStorage. Where that is forbidden there are none. */
export class Slots {
  constructor(storage = () => globalThis.localStorage) {
    this.storage = storage;
  }

  // change writes the leases that are good, after update(leases); it reports whether id is among them.
  change(id, update) {
    try {
      const storage = this.storage();
      const now = Date.now();
      const all = Object.entries(JSON.parse(storage.getItem(KEY)) ?? {});
      const leases = Object.fromEntries(all.filter(([, until]) => until > now && until <= now + LEASE));
      update(leases, now);
      storage.setItem(KEY, JSON.stringify(leases));
      return id in leases;
    } catch {
      return false;
    }
  }

  /**
   * take returns a function that gives the slot back, or null if all are taken. `lost()` is called when
   * another tab has the slot: two took the last one together.
   */
  take(id, lost = () => {}) {
    const renew = (leases, now) => {
      if (id in leases || Object.keys(leases).length < SLOTS) leases[id] = now + LEASE;
    };
    if (!this.change(id, renew)) return null;
    const release = () => {
      clearInterval(timer);
      globalThis.removeEventListener?.('pagehide', release);
      this.change(id, (leases) => delete leases[id]);
    };
    const timer = setInterval(() => {
      if (this.change(id, renew)) return;
      release();
      lost();
    }, RENEW);
    globalThis.addEventListener?.('pagehide', release);
    return release;
  }
}
