import assert from 'node:assert/strict';
import { test } from 'node:test';
import { catchDrops, commandOf, enterSends, holdsFiles } from '../lib/input.js';

test('Enter sends, but is a new line on a touch keyboard', () => {
  for (const [e, mouse, touch] of [
    [{ key: 'Enter' }, true, false],
    [{ key: 'Enter', shiftKey: true }, false, false],
    [{ key: 'Enter', altKey: true }, false, false],
    [{ key: 'Enter', ctrlKey: true }, true, true],
    [{ key: 'Enter', metaKey: true }, true, true],
    [{ key: 'Enter', isComposing: true }, false, false],
    [{ key: 'Enter', keyCode: 229 }, false, false],
    [{ key: 'a' }, false, false],
  ]) {
    assert.equal(Boolean(enterSends(e, false)), mouse, JSON.stringify(e));
    assert.equal(Boolean(enterSends(e, true)), touch, `${JSON.stringify(e)} on a touch keyboard`);
  }
});

test('a command is a slash and one word', () => {
  for (const text of ['/help', '/x', '/me waves', '/help\nplease', '/HELP!', '/отправить', '/w ada hi', '/shrug-it']) assert.equal(commandOf(text), text.split(/\s/)[0]);
  for (const text of ['', '/', '/ x', '//help', '/etc/hosts', '/home/ada', 'see /help', ' /help', '/1', '/*', `/${'a'.repeat(40)}`, '/a/']) assert.equal(commandOf(text), '', text);
});

test('pasted files are told from texts', () => {
  const transfer = (text, ...names) => ({ files: names.map((name) => ({ name })), getData: () => text });
  assert.ok(holdsFiles(transfer('', 'image.png')));
  assert.ok(holdsFiles(transfer('photo.jpg', 'photo.jpg')), 'a file manager names it');
  assert.ok(holdsFiles(transfer('/home/ada/a.txt\n/home/ada/b.txt', 'a.txt', 'b.txt')));
  assert.ok(!holdsFiles(transfer('1\t2', 'image.png')), 'cells of a table come with a picture of them');
  assert.ok(!holdsFiles(transfer('hello')));
  assert.ok(!holdsFiles(null));
});

test('what is dropped does not make the browser leave the page', () => {
  const page = new EventTarget();
  let refused = 0;
  catchDrops(page, () => refused++);
  const drop = (type, types, within) => {
    const e = new Event(type, { cancelable: true });
    Object.defineProperties(e, { dataTransfer: { value: { types, dropEffect: 'move' } }, target: { value: { closest: () => within || null } } });
    page.dispatchEvent(e);
    return [e.defaultPrevented, e.dataTransfer.dropEffect];
  };
  assert.deepEqual(drop('dragover', ['Files'], false), [true, 'copy']);
  assert.deepEqual(drop('drop', ['Files'], false), [true, 'move']);
  assert.equal(refused, 1);
  assert.deepEqual(drop('drop', ['Files'], true), [true, 'move'], 'nor over the field');
  assert.equal(refused, 2);
  assert.deepEqual(drop('dragover', ['text/uri-list'], false), [true, 'none']);
  assert.deepEqual(drop('drop', ['text/uri-list'], false), [true, 'move']);
  assert.deepEqual(drop('dragover', ['text/plain'], true), [false, 'move'], 'a text where one writes');
  assert.deepEqual(drop('drop', ['text/plain'], true), [false, 'move']);
  assert.equal(refused, 2);
});
