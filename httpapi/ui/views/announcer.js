// What somebody who cannot see the page is told: new messages, a few words each.
import { line } from '../lib/format.js';
import { html } from '../lib/html.js';
import { ROOM } from '../store/messages.js';

const TOGETHER = 1_000; // ms in which what comes is said in one go
const FEW = 3; // messages that are read out one by one

/** Announcer collects messages, and sets `text` now and then. */
export class Announcer {
  constructor(changed) {
    this.changed = changed;
    this.text = '';
    this.waiting = [];
  }

  /** tell is for each message that has just come in a talk. */
  tell(msg, key) {
    this.waiting.push(key === ROOM ? `${msg.sender}: ${line(msg.content)}` : `${msg.sender}, privately: ${line(msg.content)}`);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.text = this.waiting.length > FEW ? `${this.waiting.length} new messages` : this.waiting.join('\n');
      this.waiting = [];
      this.changed();
    }, TOGETHER);
  }

  stop() {
    clearTimeout(this.timer);
  }
}

/** Announcements is the live region with the text of an Announcer. */
export function Announcements({ announcer }) {
  return html`<div class="hidden" role="status" aria-live="polite" data-testid="announcements">${announcer.text}</div>`;
}
