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
  world.frame = (f) => world.chat.frame(JSON.stringify(f));
  world.ids = (key = '') => world.chat.talks.get(key).messages.map((m) => Number(m.id.slice(3)));
  world.states = () => world.chat.outbox.items.map((it) => `${it.content}:${it.state}`);
  world.write = (text, talk = '') => world.chat.outbox.add(talk, text);
  world.settle = () => world.frame({ client_id: 'me', online: true });
  if (open) {
    world.chat.opened();
    world.settle();
  }
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
  for (const text of ['', '{', 'null', '[]', '1', '"x"', '{"id":1,"content":"x"}', '{"id":"a"}', '{"client_id":5}']) w.chat.frame(text);
  assert.deepEqual(w.ids(), []);
});

test('a message of mine waits as sending until it comes back', () => {
  const w = setup();
  w.write('  hello ');
  assert.deepEqual(w.sent, [{ content: 'hello', to_user: '' }]);
  assert.deepEqual(w.states(), ['hello:sending']);
  w.frame(msg(1, 'me', 'hello'));
  assert.deepEqual(w.states(), []);
  assert.deepEqual(w.ids(), [1]);
});

test('one message is in flight at a time, in the order of writing', () => {
  const w = setup();
  w.write('a');
  w.write('b');
  w.write('a');
  assert.deepEqual(w.states(), ['a:sending', 'b:queued', 'a:queued']);
  w.frame(msg(1, 'me', 'a'));
  assert.deepEqual(w.states(), ['b:sending', 'a:queued']);
  w.frame(msg(2, 'me', 'b'));
  assert.deepEqual(w.states(), ['a:sending']);
  assert.equal(w.sent.length, 3);
});

test('an echo in another talk is not taken for this one', () => {
  const w = setup();
  w.write('hi', 'bob');
  w.frame(msg(1, 'me', 'hi', ''));
  w.frame(msg(2, 'me', 'hi', 'carol'));
  assert.deepEqual(w.states(), ['hi:sending']);
  w.frame(msg(3, 'me', 'hi', 'bob'));
  assert.deepEqual(w.states(), []);
});

test('a refused message stays, says why, and can be sent again', () => {
  const w = setup();
  w.write('long');
  w.frame({ error: { code: 'content_too_long', message: 'Too long.' } });
  assert.deepEqual(w.states(), ['long:failed']);
  assert.equal(w.chat.outbox.items[0].why, 'Too long.');
  assert.equal(w.chat.notice.text, 'Too long.');
  w.chat.outbox.retry(w.chat.outbox.items[0].ref);
  assert.deepEqual(w.states(), ['long:sending']);
  w.frame({ error: { code: 'content_too_long', message: 'Too long.' } });
  w.chat.outbox.discard(w.chat.outbox.items[0].ref);
  assert.deepEqual(w.states(), []);
});

test('after rate_limited the next message waits as long as the server says', () => {
  const w = setup();
  w.write('a');
  w.write('b');
  w.frame({ error: { code: 'rate_limited', message: 'Slow down.', retry_after_ms: 400 } });
  assert.deepEqual(w.states(), ['a:failed', 'b:queued']);
  pass(399);
  assert.deepEqual(w.states(), ['a:failed', 'b:queued']);
  pass(1);
  assert.deepEqual(w.states(), ['a:failed', 'b:sending']);
});

test('what was refused for good has no echo', () => {
  const w = setup();
  w.write('a');
  w.frame({ error: { code: 'rate_limited', message: 'Slow down.' } });
  w.frame(msg(1, 'me', 'a')); // from another tab
  assert.deepEqual(w.states(), ['a:failed']);
});

test('a late echo takes away a message of unknown fate', () => {
  const w = setup();
  w.write('a');
  w.frame({ error: { code: 'unavailable', message: 'Try again.' } });
  assert.deepEqual(w.states(), ['a:failed']);
  w.frame(msg(1, 'me', 'a'));
  assert.deepEqual(w.states(), []);
});

test('a silent server: the message is marked and the connection renewed', () => {
  const w = setup();
  w.write('a');
  pass(15_000);
  assert.deepEqual(w.states(), ['a:failed']);
  assert.equal(w.reconnects, 1);
});

test('a lost connection marks what was under way; the history brings it home', () => {
  const w = setup();
  w.write('a');
  w.write('b');
  w.chat.closed();
  assert.deepEqual(w.states(), ['a:failed', 'b:failed']);
  assert.deepEqual(w.chat.outbox.items.map((it) => it.maybeSent), [true, false]);
  w.chat.opened();
  w.frame(msg(1, 'me', 'a'));
  assert.deepEqual(w.states(), ['b:failed']);
  assert.equal(w.sent.length, 1, 'nothing is sent again by itself');
});

test('a frame that was too big surely did not arrive', () => {
  const w = setup();
  w.write('a');
  w.chat.closed('Too long.', false);
  assert.deepEqual(w.chat.outbox.items.map((it) => it.maybeSent), [false]);
});

test('without a connection retry does nothing', () => {
  const w = setup();
  w.write('a');
  w.chat.closed();
  w.chat.outbox.retry(w.chat.outbox.items[0].ref);
  assert.deepEqual(w.states(), ['a:failed']);
});

test('a socket that takes nothing fails the message', () => {
  const w = setup();
  w.accept = false;
  w.write('a');
  assert.deepEqual(w.states(), ['a:failed']);
});

test('who left while one was away is not online afterwards', () => {
  const w = setup();
  w.frame({ client_id: 'bob', online: true });
  w.frame({ client_id: 'carol', online: true });
  w.frame({ client_id: 'carol', online: false });
  assert.deepEqual([...w.chat.online].sort(), ['bob', 'me']);
  w.chat.closed();
  w.chat.opened();
  assert.deepEqual([...w.chat.online], ['me']);
  w.frame({ client_id: 'me', online: false }); // our own old socket's end
  assert.ok(w.chat.online.has('me'));
});

test('history at first is not unread; what comes later elsewhere is', () => {
  const w = setup({ open: false });
  w.visible = false;
  w.chat.opened();
  w.frame(msg(1));
  w.settle();
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
  w.chat.opened();
  for (const n of range(181, 200)) w.frame(msg(n));
  w.settle();
  await settled();
  assert.deepEqual(w.ids(), range(1, 200));
  assert.equal(w.asked[0].before, id(181));
});

test('after a reconnect without a hole nothing is asked', async () => {
  const w = setup();
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.chat.opened();
  for (const n of range(21, 40)) w.frame(msg(n));
  w.settle();
  await settled();
  assert.deepEqual(w.ids(), range(1, 40));
  assert.deepEqual(w.asked, []);
});

test('a server that sends no history is asked for what was missed', async () => {
  const w = setup({ room: range(1, 10).map((n) => msg(n)) });
  for (const n of range(1, 5)) w.frame(msg(n));
  w.chat.closed();
  w.chat.opened();
  pass(1_500);
  await settled();
  assert.deepEqual(w.ids(), range(1, 10));
});

test('a hole that cannot be filled is not hidden: the list starts after it', async () => {
  const w = setup({ room: range(1, 200).map((n) => msg(n)) });
  for (const n of range(1, 30)) w.frame(msg(n));
  w.chat.closed();
  w.broken = true;
  w.chat.opened();
  for (const n of range(181, 200)) w.frame(msg(n));
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
  w.chat.opened();
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
  w.chat.opened();
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
