import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { Chat } from '../state.js';

// Time stands still unless a test moves it.
beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
});
const pass = (ms) => mock.timers.tick(ms);
// Lets promises that are already resolved run; no time passes.
const settled = async () => {
  for (let i = 0; i < 50; i++) await Promise.resolve();
};

const id = (n) => `id-${String(n).padStart(5, '0')}`;
const msg = (n, sender = 'bob', content = `m${n}`, to_user = '') => ({ id: id(n), sender, content, to_user, sent_at: '2026-01-31T12:00:00Z' });

// setup returns a Chat with an archive of its own: `room` is what the archive holds.
function setup({ room = [], direct = [], open = true, ...more } = {}) {
  const world = { sent: [], asked: [], visible: true, reconnects: 0, accept: true, broken: false, remembered: [] };
  world.chat = new Chat({
    me: 'me',
    send: (text) => world.accept && (world.sent.push(JSON.parse(text)), true),
    reconnect: () => world.reconnects++,
    visible: () => world.visible,
    remember: (names) => (world.remembered = names),
    history: async ({ before, talk, limit }) => {
      world.asked.push({ before, talk });
      if (world.broken) throw new Error('down');
      const all = (talk === '' ? room : direct).filter((m) => before === '' || m.id < before);
      return { messages: all.slice(-limit), has_more: all.length > limit };
    },
    ...more,
  });
  world.batch = (...frames) => world.chat.frame(JSON.stringify({ frames }));
  world.frame = (chat) => world.batch({ chat });
  // open is what a connection begins with.
  world.open = (messages = [], recovered = false) => {
    world.chat.opened();
    world.batch({ welcome: { client_id: 'me', recovered, max_content_bytes: 4096 } }, ...messages.map((chat) => ({ chat })), { presence: { users: ['me'], total: 1 } });
  };
  const flying = () => world.chat.outbox.items.find((it) => it.state === 'sending')?.ref ?? world.sent.at(-1).send.ref;
  world.ack = (n) => world.batch({ ack: { ref: flying(), id: id(n), sent_at: '2026-01-31T12:00:00Z' } });
  world.refuse = (code, message, retry_after_ms = 0) => world.batch({ error: { code, message, ref: flying(), retry_after_ms } });
  world.ids = (key = '') => world.chat.talks.get(key).messages.map((m) => Number(m.id.slice(3)));
  world.states = () => world.chat.outbox.items.map((it) => `${it.content}:${it.state}`);
  world.write = (text, talk = '') => world.chat.outbox.add(talk, text);
  if (open) world.open();
  return world;
}
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

test('a message shows once, however often it comes', () => {
  const w = setup();
  for (const n of [2, 1, 2, 3, 1]) w.frame(msg(n));
  assert.deepEqual(w.ids(), [1, 2, 3]);
});

test('frames that are no use are skipped', () => {
  const w = setup();
  for (const text of ['', '{', 'null', '{"id":"a","content":"x"}', '{"frames":[{"chat":{}},{"chat":{"id":"a"}},{"unknown":{}}]}']) w.chat.frame(text);
  assert.deepEqual(w.ids(), []);
});

test('an acknowledged message is shown at once, and once', () => {
  const w = setup();
  w.write('  hello ');
  assert.deepEqual(w.states(), ['hello:sending']);
  const { ref, ...rest } = w.sent[0].send;
  assert.deepEqual(rest, { content: 'hello', to_user: '' });
  w.ack(1);
  assert.deepEqual(w.states(), []);
  assert.deepEqual(w.ids(), [1]);
  w.frame({ ...msg(1, 'me', 'hello'), ref });
  assert.deepEqual(w.ids(), [1]);
});

test('a message that comes back before its acknowledgement is confirmed', () => {
  const w = setup();
  w.write('hello');
  w.frame({ ...msg(1, 'me', 'hello'), ref: w.sent[0].send.ref });
  assert.deepEqual(w.states(), []);
  w.ack(1);
  assert.deepEqual(w.ids(), [1]);
});

test('one message is in flight at a time, in the order of writing', () => {
  const w = setup();
  for (const text of ['a', 'b', 'a']) w.write(text);
  assert.deepEqual(w.states(), ['a:sending', 'b:queued', 'a:queued']);
  w.ack(1);
  assert.deepEqual(w.states(), ['b:sending', 'a:queued']);
  w.ack(2);
  assert.deepEqual(w.states(), ['a:sending']);
  assert.deepEqual(w.sent.map((f) => f.send.content), ['a', 'b', 'a']);
  assert.equal(new Set(w.sent.map((f) => f.send.ref)).size, 3);
});

test('a refused message stays, says why, and can be sent again or discarded', () => {
  const w = setup();
  w.write('long');
  w.refuse('content_too_long', 'too long');
  assert.deepEqual(w.states(), ['long:failed']);
  assert.equal(w.chat.outbox.items[0].why, 'Too long.');
  w.chat.outbox.retry(w.chat.outbox.items[0].ref);
  assert.deepEqual(w.states(), ['long:sending']);
  w.refuse('content_too_long', 'too long');
  w.chat.outbox.discard(w.chat.outbox.items[0].ref);
  assert.deepEqual(w.states(), []);
});

test('after rate_limited the same message goes again when the server says', () => {
  const w = setup();
  w.write('a');
  w.write('b');
  w.refuse('rate_limited', 'slow down', 400);
  pass(399);
  assert.deepEqual(w.states(), ['a:queued', 'b:queued']);
  pass(1);
  assert.deepEqual(w.states(), ['a:sending', 'b:queued']);
  assert.equal(w.sent[1].send.ref, w.sent[0].send.ref);
});

test('while the broker is away the pauses grow', () => {
  const w = setup();
  w.write('a');
  for (const pause of [1_000, 2_000, 4_000]) {
    w.refuse('unavailable', 'try again');
    pass(pause - 1);
    assert.deepEqual(w.states(), ['a:queued']);
    pass(1);
    assert.deepEqual(w.states(), ['a:sending']);
  }
});

test('what was under way when the connection broke is sent again, in order, as the same', () => {
  const w = setup();
  w.write('a');
  w.write('b');
  w.chat.closed();
  w.write('c');
  assert.deepEqual(w.states(), ['a:queued', 'b:queued', 'c:queued']);
  w.open();
  w.ack(1);
  w.ack(2);
  w.ack(3);
  assert.deepEqual(w.sent.map((f) => f.send.content), ['a', 'a', 'b', 'c']);
  assert.equal(w.sent[0].send.ref, w.sent[1].send.ref);
  assert.deepEqual(w.ids(), [1, 2, 3]);
});

test('what was confirmed while one was away is not sent again', () => {
  const w = setup();
  w.write('a');
  w.chat.closed();
  w.open([{ ...msg(1, 'me', 'a'), ref: w.sent[0].send.ref }]);
  assert.deepEqual(w.states(), []);
  assert.equal(w.sent.length, 1);
});

test('a silent server: the connection is renewed, and the message sent again', () => {
  const w = setup();
  w.write('a');
  pass(15_000);
  assert.equal(w.reconnects, 1);
  w.chat.closed();
  w.open();
  assert.deepEqual(w.states(), ['a:sending']);
});

test('a message that the connection broke on is not sent again by itself', () => {
  const w = setup();
  w.write('a');
  w.write('b');
  w.chat.closed('Too long.');
  w.open();
  assert.deepEqual(w.states(), ['a:failed', 'b:sending']);
});

test('what an earlier page has left is sent, the oldest first, and then forgotten', async () => {
  const kept = new Map();
  const keep = { all: async () => [...kept.values()], put: async (it) => kept.set(it.ref, it), remove: async (ref) => kept.delete(ref) };
  const before = setup({ keep, open: false });
  before.write('a');
  before.write('b');
  assert.equal(kept.size, 2);
  pass(1_000);
  const after = setup({ keep, open: false });
  after.write('c');
  await after.chat.outbox.load();
  assert.deepEqual(after.states(), ['a:queued', 'b:queued', 'c:queued']);
  after.open();
  for (const n of [1, 2, 3]) after.ack(n);
  assert.deepEqual(after.sent.map((f) => f.send.content), ['a', 'b', 'c']);
  assert.equal(kept.size, 0);
  await after.chat.outbox.load();
  assert.deepEqual(after.states(), []);
});

test('a message that was refused for good is still there after a reload', async () => {
  const kept = new Map();
  const keep = { all: async () => [...kept.values()], put: async (it) => kept.set(it.ref, it), remove: async (ref) => kept.delete(ref) };
  const before = setup({ keep });
  before.write('a');
  before.refuse('content_too_long', 'too long');
  const after = setup({ keep });
  await settled();
  assert.deepEqual(after.states(), ['a:failed']);
});

test('who writes is shown for a while, or until it is said', () => {
  const w = setup();
  w.batch({ typing: { client_id: 'bob', to_user: '' } }, { typing: { client_id: 'bob', to_user: 'me' } }, { typing: { client_id: 'me', to_user: '' } });
  assert.deepEqual(w.chat.people.writing(''), ['bob']);
  assert.deepEqual(w.chat.people.writing('bob'), ['bob']);
  w.frame(msg(1, 'bob'));
  assert.deepEqual(w.chat.people.writing(''), []);
  pass(5_000);
  assert.deepEqual(w.chat.people.writing('bob'), []);
});

test('others are told now and then that one writes', () => {
  const w = setup();
  pass(10_000);
  for (let i = 0; i < 5; i++) w.chat.writes('bob');
  assert.deepEqual(w.sent, [{ typing: { to_user: 'bob' } }]);
  pass(3_000);
  w.chat.writes('bob');
  assert.equal(w.sent.length, 2);
});

test('after a reconnect one is told how many messages are new', async () => {
  const w = setup();
  w.frame(msg(1));
  w.chat.closed();
  w.open([msg(1), msg(2), msg(3, 'me'), msg(4)], true);
  await settled();
  assert.deepEqual(w.chat.caughtUp, { count: 2 });
  assert.deepEqual(w.asked, [], 'what was recovered is not asked for');
  pass(6_000);
  assert.equal(w.chat.caughtUp, null);
});

test('the place to resume at is the last message that came live', async () => {
  const w = setup({ room: [msg(1), msg(2)] });
  w.frame(msg(5));
  await w.chat.loadOlder('');
  w.write('a');
  w.ack(9);
  assert.equal(w.chat.since, id(5));
});

test('who left while one was away is not online afterwards', () => {
  const w = setup();
  w.batch({ status: { online: ['bob', 'carol'], offline: [], total: 3 } });
  w.batch({ status: { online: [], offline: ['carol'], total: 2 } });
  assert.deepEqual([...w.chat.online].sort(), ['bob', 'me']);
  assert.equal(w.chat.people.total, 2);
  w.chat.closed();
  w.open();
  assert.deepEqual([...w.chat.online], ['me']);
  w.batch({ status: { online: [], offline: ['me'], total: 0 } }); // our own old socket's end
  assert.ok(w.chat.online.has('me'));
});

test('more people can be online than the server names', () => {
  const w = setup();
  w.batch({ presence: { users: ['a', 'b'], total: 2000 } });
  assert.equal(w.chat.people.total, 2000);
});

test('history at first is not unread; what comes later elsewhere is', () => {
  const w = setup({ open: false });
  w.visible = false;
  w.open([msg(1)]);
  assert.equal(w.chat.unread, 0);
  w.frame(msg(2));
  w.frame(msg(3, 'me'));
  assert.equal(w.chat.unread, 1);
  w.visible = true;
  w.chat.seen();
  assert.equal(w.chat.unread, 0);
  assert.equal(w.chat.talks.get('').marker, id(2));
});

test('a private message makes a talk with an unread mark, and opening it clears the mark', async () => {
  const w = setup({ direct: [msg(1, 'me', 'x', 'bob'), msg(5, 'bob', 'y', 'me')] });
  w.frame(msg(5, 'bob', 'y', 'me'));
  assert.equal(w.chat.talks.get('bob').unread, 1);
  assert.deepEqual(w.remembered, ['bob']);
  w.chat.open('bob');
  assert.equal(w.chat.unread, 0);
  await w.chat.loadOlder('bob');
  assert.deepEqual(w.asked, [{ before: '', talk: 'bob' }]);
  assert.deepEqual(w.ids('bob'), [1, 5]);
  assert.equal(w.chat.unread, 0);
});

test('private talks of earlier visits are listed, the latest news first', () => {
  const w = setup({ partners: ['zoe', 'adam'] });
  assert.deepEqual(w.chat.privateTalks.map((t) => t.key), ['adam', 'zoe']);
  w.frame(msg(1, 'zoe', 'hi', 'me'));
  assert.deepEqual(w.chat.privateTalks.map((t) => t.key), ['zoe', 'adam']);
});

test('older messages come page by page, until there are none', async () => {
  const room = range(1, 120).map((n) => msg(n));
  const w = setup({ room });
  w.frame(msg(120));
  await w.chat.loadOlder('');
  assert.deepEqual(w.ids(), range(70, 120));
  await w.chat.loadOlder('');
  await w.chat.loadOlder('');
  assert.deepEqual(w.ids(), range(1, 120));
  assert.equal(w.chat.talks.get('').hasMore, false);
  await w.chat.loadOlder('');
  assert.equal(w.asked.length, 3);
});

test('two requests for the same page are one', async () => {
  const w = setup({ room: [msg(1)] });
  await Promise.all([w.chat.loadOlder(''), w.chat.loadOlder('')]);
  assert.equal(w.asked.length, 1);
});

test('an older page of mine is not taken for an echo', async () => {
  const w = setup({ room: [msg(1, 'me', 'ok'), msg(2)] });
  w.frame(msg(2));
  w.write('ok');
  await w.chat.loadOlder('');
  assert.deepEqual(w.states(), ['ok:sending']);
});

test('trouble with older messages is told, and trying again works', async () => {
  const w = setup({ room: [msg(1)] });
  w.broken = true;
  await w.chat.loadOlder('');
  assert.equal(w.chat.talks.get('').trouble, 'down');
  w.broken = false;
  await w.chat.loadOlder('');
  assert.equal(w.chat.talks.get('').trouble, '');
  assert.deepEqual(w.ids(), [1]);
});

test('after a reconnect the hole before the history is filled', async () => {
  const room = range(1, 200).map((n) => msg(n));
  const w = setup({ room });
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.open(range(181, 200).map((n) => msg(n)));
  await settled();
  assert.deepEqual(w.ids(), range(1, 200));
  assert.equal(w.asked[0].before, id(181));
});

test('after a reconnect without a hole nothing is asked', async () => {
  const w = setup();
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.open(range(21, 40).map((n) => msg(n)));
  await settled();
  assert.deepEqual(w.ids(), range(1, 40));
  assert.deepEqual(w.asked, []);
});

test('a server that sends no history is asked for what was missed', async () => {
  const w = setup({ room: range(1, 10).map((n) => msg(n)) });
  for (const n of range(1, 5)) w.frame(msg(n));
  w.chat.closed();
  w.open();
  await settled();
  assert.deepEqual(w.ids(), range(1, 10));
});

test('a hole that cannot be filled is not hidden: the list starts after it', async () => {
  const w = setup({ room: range(1, 200).map((n) => msg(n)) });
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.broken = true;
  w.open(range(181, 200).map((n) => msg(n)));
  await settled();
  assert.deepEqual(w.ids(), range(181, 200));
  assert.equal(w.chat.talks.get('').hasMore, true);
  w.broken = false;
  for (let i = 0; i < 4; i++) await w.chat.loadOlder('');
  assert.deepEqual(w.ids(), range(1, 200));
});

test('missed messages of private talks are fetched, and unread', async () => {
  const direct = [msg(1, 'bob', 'a', 'me')];
  const w = setup({ direct });
  w.chat.open('bob');
  await w.chat.loadOlder('bob');
  w.chat.open('');
  w.chat.closed();
  direct.push(msg(2, 'bob', 'b', 'me'), msg(3, 'me', 'c', 'bob'));
  w.open();
  await settled();
  assert.deepEqual(w.ids('bob'), [1, 2, 3]);
  assert.equal(w.chat.talks.get('bob').unread, 1);
});

test('private messages that no archive keeps are never let go', async () => {
  const w = setup({ direct: [] });
  w.chat.open('bob');
  await w.chat.loadOlder('bob');
  w.frame(msg(1, 'bob', 'a', 'me'));
  w.chat.closed();
  w.open();
  await settled();
  assert.deepEqual(w.ids('bob'), [1]);
});

test('the room does not grow without end, but not under the eyes of a reader', () => {
  const w = setup();
  for (const n of range(1, 1201)) w.frame(msg(n));
  assert.equal(w.ids().length, 1000);
  assert.equal(w.chat.talks.get('').hasMore, true);
  w.chat.atBottom = false;
  for (const n of range(1202, 1500)) w.frame(msg(n));
  assert.equal(w.ids().length, 1299);
});

test('a notice goes by itself, and a new one stays its full time', () => {
  const w = setup();
  w.chat.say('one');
  pass(7_000);
  w.chat.say('two');
  pass(7_000);
  assert.equal(w.chat.notice.text, 'two');
  pass(1_000);
  assert.equal(w.chat.notice, null);
});

test('a hole with nothing after it is tried again until it is filled', async () => {
  const w = setup({ room: range(1, 10).map((n) => msg(n)) });
  for (const n of range(1, 5)) w.frame(msg(n));
  w.chat.closed();
  w.broken = true;
  w.open();
  await settled();
  w.broken = false;
  w.frame(msg(10));
  pass(5_000);
  await settled();
  assert.deepEqual(w.ids(), range(1, 10));
});
