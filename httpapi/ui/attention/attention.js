// What calls for a person who looks elsewhere: a desktop notification and a sound,
// once for each message, however many tabs are open.
import { line } from '../lib/format.js';
import { Members } from '../lib/mentions.js';
import { place } from '../lib/place.js';
import { ROOM } from '../store/messages.js';

const WAIT = 500; // ms that a tab has to say that the message is being looked at

/**
 * Attention of one user. One of the tabs, the one that has the lock, speaks for all.
 *   settings           store/settings.js
 *   members            who can be mentioned, see lib/mentions.js
 *   isRead(key, id)    whether a message has been seen, in this tab or another
 *   show({title, body, tag, open})  shows a notification
 *   sound()            makes a sound
 *   open(key)          shows a talk, when the notification is clicked
 *   locks              the browser's, or nothing: then each tab speaks for itself
 */
export class Attention {
  constructor({ me, settings, members = new Members([me]), isRead, show, sound, open, locks = globalThis.navigator?.locks }) {
    Object.assign(this, { me, settings, members, isRead, show, sound, open });
    this.speaks = !locks;
    const stopped = new Promise((stop) => (this.stop = stop));
    this.ended = Promise.resolve(
      locks?.request(`burrow${place}.attention.${me}`, () => {
        this.speaks = true;
        return stopped;
      }),
    ).catch(() => {}); // the page is going away
  }

  /** wants tells whether a message calls, by what the person has chosen. */
  wants(msg, key, what) {
    return what === 'all' || key !== ROOM || this.members.mentions(msg.content, this.me);
  }

  /** consider is told each message that somebody else has just sent. */
  consider(msg, key) {
    const { notify, sound } = this.settings;
    if (notify === 'off' && !sound) return;
    if (!this.wants(msg, key, notify)) return;
    setTimeout(() => this.call(msg, key), WAIT);
  }

  call(msg, key) {
    // Asked only now: the tab that spoke when the message came may be closed since.
    if (!this.speaks || this.isRead(key, msg.id)) return;
    const { notify, sound } = this.settings;
    if (sound) this.sound();
    if (notify === 'off') return;
    this.show({
      title: key === ROOM ? `${msg.sender} in the global room` : msg.sender,
      body: line(msg.content),
      tag: msg.id,
      open: () => this.open(key, msg.id),
    });
  }
}
