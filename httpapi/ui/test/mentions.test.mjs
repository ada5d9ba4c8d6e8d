import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Members } from '../lib/mentions.js';

test('a mention is the whole name, in any case, whatever signs are in it', () => {
  for (const [text, name, want] of [
    ['hi @ada!', 'ada', true], ['@ADA', 'ada', true], ['@ada.', 'ada', true], ['(@ada)', 'ada', true], ['**@ada**', 'ada', true], ['_@ada_', 'ada', true],
    ['@adam', 'ada', false], ['@ada-b', 'ada', false], ['@ada.b', 'ada', false], ['@ada_b', 'ada', false], ['a@ada', 'ada', false], ['a_@ada', 'ada', false], ['ada', 'ada', false],
    ['@ada...', 'ada', true], ['@ada--now', 'ada', true], ['@ada, @ada', 'ada', true], ['@@ada', 'ada', false], ['/@ada', 'ada', false], ['@ada@example.org', 'ada', false],
    ['@Ada Lovelace, look', 'Ada Lovelace', true], ['@Ada  Lovelace', 'Ada Lovelace', false], ['@a.b', 'a.b', true], ['@axb', 'a.b', false], ['@李雷 你好', '李雷', true], ['@a+b', 'a', true],
    ['@e\u0301va', 'éva', true], ['@हिन्दी!', 'हिन्दी', true], ['@𝒜da', '𝒜DA', true], ['𝒜@ada', 'ada', false], ['@ada', 'constructor', false],
  ]) assert.equal(new Members([name]).mentions(text, name), want, `${text} for ${name}`);
});

test('of two members the one with the longer name is meant', () => {
  const members = new Members(['ada', 'Ada Lovelace', 'ada.b']);
  const found = (text) => members.find(text).map(({ start, end }) => text.slice(start, end));
  assert.deepEqual(found('@ada lovelace @ada love @ada.b @ada.c @ada'), ['@ada lovelace', '@ada', '@ada.b', '@ada']);
  assert.ok(!members.mentions('@Ada Lovelace', 'ada'));
});

test('a name that is no name is nobody', () => {
  const members = new Members(['', 'ada']);
  assert.equal(members.size, 1);
  assert.deepEqual(members.find('@ @. @@ @'), []);
});
