// Whether somebody is in front of the screen.

const IDLE_AFTER = 5 * 60_000; // ms without a sign of life
const HIDDEN_FOR = 3_000; // ms; looking at another tab for a moment is not leaving
const SIGNS = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart', 'focus'];

/** Idle tells changed(away) when somebody leaves or comes back, until stop. */
export class Idle {
  constructor(changed, page = globalThis) {
    this.changed = changed;
    this.page = page;
    this.away = false;
    this.alive = this.alive.bind(this);
    this.looked = this.looked.bind(this);
    for (const sign of SIGNS) page.addEventListener(sign, this.alive, { capture: true, passive: true });
    page.document.addEventListener('visibilitychange', this.looked);
    this.seen = Date.now();
    this.looked();
  }

  get hidden() {
    return this.page.document.visibilityState === 'hidden';
  }

  // alive is called for every move of the mouse, so it does next to nothing.
  alive() {
    this.seen = Date.now();
    if (this.away && !this.hidden) this.looked();
  }

  looked() {
    if (!this.hidden) {
      this.seen = Date.now();
      this.set(false);
    }
    this.wait(this.hidden ? HIDDEN_FOR : IDLE_AFTER);
  }

  wait(time) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const left = this.hidden ? 0 : this.seen + IDLE_AFTER - Date.now();
      if (left > 0) this.wait(left);
      else this.set(true);
    }, time);
  }

  set(away) {
    if (away === this.away) return;
    this.away = away;
    this.changed(away);
  }

  stop() {
    clearTimeout(this.timer);
    for (const sign of SIGNS) this.page.removeEventListener(sign, this.alive, { capture: true });
    this.page.document.removeEventListener('visibilitychange', this.looked);
  }
}
