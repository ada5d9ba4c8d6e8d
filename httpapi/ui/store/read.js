// How far one has read each talk: the id of the last message. It is the same in all
// tabs of a browser, and after a reload.

const REMEMBERED = 200; // talks

/**
 * ReadMarks of one user. changed(key) is called when another tab has read a talk.
 */
export class ReadMarks {
  constructor({ memory, tabs, changed }) {
    this.memory = memory;
    this.tabs = tabs;
    this.marks = new Map(this.remembered());
    tabs.on.read = ({ talk, id }) => {
      if (typeof talk !== 'string' || typeof id !== 'string' || id <= this.at(talk)) return;
      this.marks.set(talk, id);
      changed(talk);
    };
  }

  remembered() {
    const kept = Object.entries(this.memory.get('read', {}));
    return kept.filter(([, id]) => typeof id === 'string');
  }

  has(key) {
    return this.marks.has(key);
  }

  /** at returns the id up to which a talk is read, '' for nothing. */
  at(key) {
    return this.marks.get(key) ?? '';
  }

  /** advance: everything up to id has been read. */
  advance(key, id) {
    if (id <= this.at(key)) return;
    this.marks.set(key, id);
    // Another tab may have written since this one has read.
    const newest = new Map(this.remembered());
    for (const [talk, mark] of this.marks) if (mark > (newest.get(talk) ?? '')) newest.set(talk, mark);
    const kept = [...newest].sort(([, a], [, b]) => (a < b ? 1 : -1)).slice(0, REMEMBERED);
    this.memory.set('read', Object.fromEntries(kept));
    this.tabs.tell({ kind: 'read', talk: key, id });
  }

  /** lower: a message has come late, after others with greater ids were read. */
  lower(key, id) {
    // A part of an id is just before it.
    if (id < this.at(key)) this.marks.set(key, id.slice(0, -1));
  }
}

/**
 * unread counts the messages of others after a mark: {count, called, first, more}, with
 * how many of them call one (calls(msg)), the id of the first one (null: none), and
 * whether older ones that are not here may be unread too.
 */
export function unread(messages, mark, me, calls = () => false) {
  let count = 0;
  let called = 0;
  let first = null;
  let i = messages.length - 1;
  for (; i >= 0 && messages[i].id > mark; i--) {
    if (messages[i].sender === me) continue;
    count++;
    if (calls(messages[i])) called++;
    first = messages[i].id;
  }
  return { count, called, first, more: i < 0 && count > 0 && mark !== '' };
}
