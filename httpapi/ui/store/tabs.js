// The other tabs of the same user in this browser: what one of them does, all know.
import { place } from '../lib/place.js';

/**
 * Tabs passes small objects {kind, …} to the other tabs. `on` maps a kind to what
 * is done when such an object comes.
 */
export class Tabs {
  constructor(user, Channel = globalThis.BroadcastChannel) {
    this.on = {};
    try {
      this.channel = new Channel(`burrow${place}.${user}`);
      this.channel.onmessage = ({ data }) => this.on[data?.kind]?.(data);
    } catch {
      this.channel = null; // each tab for itself
    }
  }

  /** tell sends an object to the other tabs, not to this one. */
  tell(object) {
    this.channel?.postMessage(object);
  }

  close() {
    this.channel?.close();
    this.channel = null;
  }
}
