// What must outlive a reload: messages that the server has not confirmed. They are
// kept in IndexedDB, by ref. Where that is forbidden or broken they live as long as
// the page.
import { place } from '../lib/place.js';

const request = (r) =>
  new Promise((resolve, reject) => {
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error);
  });

/** Keep holds the unconfirmed messages of one user. No method rejects. */
export class Keep {
  constructor(user, factory = globalThis.indexedDB) {
    this.user = user;
    this.db = this.open(factory).catch(() => null);
  }

  async open(factory) {
    const opening = factory.open(`burrow${place}`, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('outbox', { keyPath: 'ref' }).createIndex('user', 'user');
    const db = await request(opening);
    db.onversionchange = () => db.close(); // a newer page in another tab
    return db;
  }

  async run(mode, what) {
    try {
      const db = await this.db;
      if (!db) return null;
      return await request(what(db.transaction('outbox', mode).objectStore('outbox')));
    } catch {
      return null; // full or gone: the page still has it
    }
  }

  /** all returns what is kept, as it was put. */
  async all() {
    return (await this.run('readonly', (s) => s.index('user').getAll(this.user))) ?? [];
  }

  put(item) {
    return this.run('readwrite', (s) => s.put({ ...item, user: this.user }));
  }

  remove(ref) {
    return this.run('readwrite', (s) => s.delete(ref));
  }
}
