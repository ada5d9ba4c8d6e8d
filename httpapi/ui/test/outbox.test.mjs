import assert from 'node:assert/strict';
import { test } from 'node:test';
import { msg, pass, settled, setup } from './world.mjs';

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

test('an older page of mine is not taken for an echo', async () => {
  const w = setup({ room: [msg(1, 'me', 'ok'), msg(2)] });
  w.frame(msg(2));
  w.write('ok');
  await w.chat.loadOlder('');
  assert.deepEqual(w.states(), ['ok:sending']);
});
