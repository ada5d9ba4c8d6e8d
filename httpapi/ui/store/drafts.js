// What is being written, by talk. It survives a reload, and all tabs show the same.

/** Drafts of one user. changed() is called when another tab has written. */
export class Drafts {
  constructor({ memory, tabs, changed }) {
    this.memory = memory;
    this.tabs = tabs;
    this.texts = new Map(Object.entries(memory.get('drafts', {})).filter(([, text]) => typeof text === 'string'));
    tabs.on.draft = ({ talk, text }) => {
      if (typeof talk !== 'string' || typeof text !== 'string') return;
      this.put(talk, text);
      changed();
    };
  }

  /** get returns the draft of a talk, '' for none. */
  get(key) {
    return this.texts.get(key) ?? '';
  }

  /** set keeps a draft, and tells the other tabs; '' forgets it. */
  set(key, text) {
    if (text === this.get(key)) return;
    this.put(key, text);
    this.memory.set('drafts', Object.fromEntries(this.texts));
    this.tabs.tell({ kind: 'draft', talk: key, text });
  }

  put(key, text) {
    if (text === '') this.texts.delete(key);
    else this.texts.set(key, text);
  }
}
