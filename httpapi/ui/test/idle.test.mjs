import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { Idle } from '../attention/idle.js';

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
});

// screen is a page that can be hidden and touched.
function screen() {
  const page = new EventTarget();
  page.document = new EventTarget();
  page.document.visibilityState = 'visible';
  const told = [];
  const idle = new Idle((away) => told.push(away), page);
  const show = (state) => {
    page.document.visibilityState = state;
    page.document.dispatchEvent(new Event('visibilitychange'));
  };
  return { told, idle, show, touch: () => page.dispatchEvent(new Event('pointermove')) };
}
const MINUTE = 60_000;

test('after five minutes without a sign of life one is away, and back with the first one', () => {
  const s = screen();
  mock.timers.tick(4 * MINUTE);
  s.touch();
  mock.timers.tick(4 * MINUTE);
  assert.deepEqual(s.told, []);
  mock.timers.tick(MINUTE);
  assert.deepEqual(s.told, [true]);
  s.touch();
  s.touch();
  assert.deepEqual(s.told, [true, false]);
  mock.timers.tick(5 * MINUTE);
  assert.deepEqual(s.told, [true, false, true]);
});

test('behind another tab one is away, but not for a moment', () => {
  const s = screen();
  s.show('hidden');
  mock.timers.tick(2_000);
  s.show('visible');
  mock.timers.tick(10_000);
  assert.deepEqual(s.told, []);
  s.show('hidden');
  mock.timers.tick(3_000);
  assert.deepEqual(s.told, [true]);
  s.touch();
  assert.deepEqual(s.told, [true]);
  s.show('visible');
  assert.deepEqual(s.told, [true, false]);
});

test('nothing is told after stop', () => {
  const s = screen();
  s.idle.stop();
  s.touch();
  s.show('hidden');
  mock.timers.tick(10 * MINUTE);
  assert.deepEqual(s.told, []);
});
