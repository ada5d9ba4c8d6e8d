import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { dayOf, eachDay, shortTimeOf } from '../lib/times.js';

const at = (day, hour, minute, second = 0) => new Date(2026, 0, day, hour, minute, second);

beforeEach(() => mock.timers.enable({ apis: ['setInterval', 'Date'] }));
afterEach(() => mock.timers.reset());

test('the page is drawn again within a minute after midnight, once', () => {
  mock.timers.setTime(at(30, 23, 58, 30).getTime());
  let drawn = 0;
  const stop = eachDay(() => drawn++);
  mock.timers.tick(89_000);
  assert.equal(drawn, 0, 'not before');
  const said = at(30, 23, 50).toISOString();
  assert.equal(dayOf(said), 'Today');
  mock.timers.tick(61_000);
  assert.equal(drawn, 1);
  assert.equal(dayOf(said), 'Yesterday');
  assert.equal(shortTimeOf(said), 'Yesterday', 'in the list of conversations too');
  mock.timers.tick(3_600_000);
  assert.equal(drawn, 1);
  stop();
  mock.timers.tick(3 * 86_400_000);
  assert.equal(drawn, 1);
});

test('the list shows the time of today, then Yesterday, then the day', () => {
  const now = at(31, 0, 5);
  assert.match(shortTimeOf(at(31, 0, 1).toISOString(), now), /^00:01$/);
  assert.equal(shortTimeOf(at(30, 0, 1).toISOString(), now), 'Yesterday');
  assert.match(shortTimeOf(at(29, 12, 0).toISOString(), now), /29/);
  assert.match(shortTimeOf(new Date(2025, 11, 31).toISOString(), at(1, 9, 0)), /Yesterday/, 'of another year');
  assert.match(shortTimeOf('2024-05-05T12:00:00Z', now), /2024/);
});
