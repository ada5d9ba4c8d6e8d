// What a person has chosen for this browser.

const DEFAULTS = { notify: 'off', sound: false };

/**
 * Settings of one user: `notify` is "off", "mine" (private messages and mentions)
 * or "all"; `sound` is whether such a message is heard. The same in all tabs.
 */
export class Settings {
  constructor({ memory, tabs, changed }) {
    Object.assign(this, { memory, tabs, changed });
    this.values = { ...DEFAULTS, ...memory.get('settings', {}) };
    tabs.on.settings = ({ values }) => {
      this.values = { ...DEFAULTS, ...values };
      changed();
    };
  }

  get notify() {
    return this.values.notify;
  }

  get sound() {
    return this.values.sound === true;
  }

  /** set changes some of them. */
  set(change) {
    this.values = { ...this.values, ...change };
    this.memory.set('settings', this.values);
    this.tabs.tell({ kind: 'settings', values: this.values });
    this.changed();
  }
}
