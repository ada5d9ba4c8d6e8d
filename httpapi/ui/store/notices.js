// What the page says about itself, for a while.

const NOTICE_FOR = 8_000; // ms that a notice stays
const CAUGHT_UP_FOR = 6_000; // ms

export const NO_FILES = 'Files and pictures cannot be sent yet.';

/**
 * Notices are `text` (null: none) with an `action`, {label, run} or null, and `caughtUp`, {count, lost} for a while after a reconnect.
 */
export class Notices {
  constructor(changed) {
    this.changed = changed;
    this.text = null;
    this.action = null;
    this.caughtUp = null;
  }

  /** say shows a notice near the composer. One with an action stays until it is dismissed. */
  say(text, action = null) {
    clearTimeout(this.timer);
    this.text = text;
    this.action = action;
    if (!action) this.timer = setTimeout(() => this.dismiss(), NOTICE_FOR);
    this.changed();
  }

  /** dismiss takes the notice away. */
  dismiss() {
    clearTimeout(this.timer);
    this.text = null;
    this.action = null;
    this.changed();
  }

  /** caughtUpWith tells that one is up to date again, how much has come, and whether private messages may be lost. */
  caughtUpWith(count, lost = false) {
    clearTimeout(this.caughtUpTimer);
    this.caughtUp = { count, lost };
    this.caughtUpTimer = setTimeout(() => {
      this.caughtUp = null;
      this.changed();
    }, CAUGHT_UP_FOR);
    this.changed();
  }

  stop() {
    clearTimeout(this.timer);
    clearTimeout(this.caughtUpTimer);
  }
}
