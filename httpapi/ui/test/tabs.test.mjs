import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Attention } from '../attention/attention.js';
import { Memory } from '../lib/memory.js';
import { unread } from '../store/read.js';
import { id, msg, pass, setup } from './world.mjs';

// browser returns a maker of tabs that share a channel, a memory and a lock.
function browser() {
  const tabs = [];
  const remembered = {};
  const holders = [];
  const locks = {
    request: (_, held) => {
      holders.push(held);
      if (holders.length === 1) held();
      return new Promise(() => {});
    },
    next: () => (holders.shift(), holders[0]?.()),
  };
  const open = () => {
    const own = { on: {}, tell: (o) => tabs.filter((t) => t !== own).forEach((t) => t.on[o.kind]?.(structuredClone(o))) };
    tabs.push(own);
    return setup({ tabs: own, memory: { get: (name, otherwise) => structuredClone(remembered[name]) ?? otherwise, set: (name, value) => (remembered[name] = structuredClone(value)) } });
  };
  return { open, locks, remembered };
}

test('what is read in one tab is read in all, and after a reload', () => {
  const b = browser();
  const [one, two] = [b.open(), b.open()];
  for (const w of [one, two]) w.visible = false;
  for (const w of [one, two]) for (const n of [1, 2]) w.frame(msg(n, 'bob', 'x', 'me'));
  assert.deepEqual([one.chat.unread, two.chat.unread], [2, 2]);
  one.visible = true;
  one.chat.open('bob');
  assert.deepEqual([one.chat.unread, two.chat.unread], [0, 0]);
  two.frame(msg(3, 'bob', 'y', 'me'));
  assert.equal(two.chat.unread, 1);
  const three = b.open();
  assert.equal(three.chat.read.at('bob'), id(2));
});

test('what came while nobody looked is unread after a reload, what one has seen is not', () => {
  const b = browser();
  const one = b.open();
  one.frame(msg(1));
  one.chat.stop();
  const two = b.open();
  two.visible = false;
  two.chat.closed();
  two.open([msg(1), msg(2)], true);
  assert.equal(two.chat.unread, 1);
});

test('a message that comes late, with an id before one that was read, is unread', () => {
  const w = setup();
  w.frame(msg(5));
  w.visible = false;
  w.frame(msg(3));
  assert.equal(w.chat.unread >= 1, true);
});

test('unread counts the others, and says when there may be more', () => {
  const list = [msg(1), msg(2, 'me'), msg(3)];
  assert.deepEqual(unread(list, id(1), 'me'), { count: 1, called: 0, first: id(3), more: false });
  assert.deepEqual(unread(list, 'id-00000', 'me'), { count: 2, called: 0, first: id(1), more: true });
  assert.deepEqual(unread(list, id(3), 'me'), { count: 0, called: 0, first: null, more: false });
});

test('drafts are the same in all tabs and after a reload, each talk its own', () => {
  const b = browser();
  const [one, two] = [b.open(), b.open()];
  one.chat.drafts.set('', 'to all');
  one.chat.drafts.set('bob', 'to bob');
  assert.equal(two.chat.drafts.get('bob'), 'to bob');
  two.chat.drafts.set('bob', '');
  const three = b.open();
  assert.deepEqual([one.chat.drafts.get('bob'), three.chat.drafts.get('bob'), three.chat.drafts.get('')], ['', '', 'to all']);
});

test('choices are the same in all tabs', () => {
  const b = browser();
  const [one, two] = [b.open(), b.open()];
  one.chat.settings.set({ notify: 'all' });
  assert.equal(two.chat.settings.notify, 'all');
  assert.equal(b.open().chat.settings.notify, 'all');
  assert.equal(setup().chat.settings.sound, false);
});

// callers makes an Attention for each chat, noting what is shown.
function callers(b, worlds) {
  const shown = [];
  let sounds = 0;
  const all = worlds.map((w) => {
    const a = new Attention({ me: 'me', settings: w.chat.settings, isRead: (key, i) => w.chat.read.at(key) >= i, show: (n) => shown.push(n), sound: () => sounds++, open: (key) => w.chat.open(key), locks: b.locks });
    w.chat.arrived = (m, key) => a.consider(m, key);
    return a;
  });
  return { shown, all, sounds: () => sounds };
}

test('one notification for a message, however many tabs; none if one of them shows it', () => {
  const b = browser();
  const worlds = [b.open(), b.open(), b.open()];
  const { shown } = callers(b, worlds);
  worlds[0].chat.settings.set({ notify: 'all' });
  for (const w of worlds) w.visible = false;
  for (const w of worlds) w.frame(msg(1, 'bob', 'hello'));
  pass(1_000);
  assert.deepEqual(shown.map((n) => [n.title, n.body, n.tag]), [['bob in the global room', 'hello', id(1)]]);
  worlds[2].visible = true;
  for (const w of worlds) w.frame(msg(2, 'bob', 'seen'));
  pass(1_000);
  assert.equal(shown.length, 1);
  for (const w of worlds) w.frame(msg(3, 'eve', 'in private', 'me')); // another talk than the one that is seen
  pass(1_000);
  assert.equal(shown.length, 2);
  shown[1].open();
  assert.equal(worlds[0].chat.active, 'eve');
});

test('when the tab that speaks is closed another one speaks', () => {
  const b = browser();
  const worlds = [b.open(), b.open()];
  const { shown } = callers(b, worlds);
  worlds[0].chat.settings.set({ notify: 'all' });
  worlds[1].visible = false;
  b.locks.next();
  worlds[1].frame(msg(1));
  pass(1_000);
  assert.equal(shown.length, 1);
});

test('private messages and mentions call, other talk only if one wants it; nothing by default', () => {
  for (const [notify, want] of [['off', []], ['mine', ['hi @me', 'psst']], ['all', ['talk', 'hi @me', 'psst']]]) {
    const b = browser();
    const w = b.open();
    const { shown, sounds } = callers(b, [w]);
    w.visible = false;
    w.chat.settings.set({ notify, sound: notify === 'off' });
    w.frame(msg(1, 'bob', 'talk'));
    w.frame(msg(2, 'bob', 'hi @me'));
    w.frame(msg(3, 'bob', 'psst', 'me'));
    w.frame(msg(4, 'me', 'mine'));
    pass(1_000);
    assert.deepEqual(shown.map((n) => n.body), want, notify);
    assert.equal(sounds(), notify === 'off' ? 2 : 0);
  }
});

test('Memory bears a storage that is full, forbidden or spoilt', () => {
  const broken = new Memory('me', { getItem: () => '{', setItem: () => { throw new Error('full'); } });
  broken.set('a', 1);
  assert.equal(broken.get('a', 2), 2);
  assert.equal(new Memory('me', undefined).get('a', 3), 3);
});
