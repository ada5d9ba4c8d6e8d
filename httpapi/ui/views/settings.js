// What one can choose, as a dialog.
import { askToNotify, canNotify, chime } from '../attention/desktop.js';
import { html, useLayoutEffect, useRef, useState } from '../lib/html.js';
import { Icon } from './parts.js';

const KEYS = [
  ['Enter', 'Send'],
  ['Shift Enter', 'New line'],
  ['Ctrl K', 'Search messages'],
  ['Alt ↑ ↓', 'Previous or next talk'],
  ['Alt Shift ↓', 'Next unread talk'],
  ['Esc', 'Back to writing'],
];

/** Settings is shown until close is called. */
export function Settings({ app, close }) {
  const { settings, me } = app.chat;
  const dialog = useRef();
  const [trouble, setTrouble] = useState('');
  useLayoutEffect(() => {
    const element = dialog.current;
    element.showModal();
    return () => element.close();
  }, []);
  const choose = async (e) => {
    const notify = e.currentTarget.value;
    setTrouble('');
    if (notify !== 'off' && !(await askToNotify())) {
      setTrouble(canNotify() ? 'The browser does not allow notifications for this page.' : 'This browser shows notifications only for pages that come over https.');
      app.changed();
      return;
    }
    settings.set({ notify });
  };
  const sound = (e) => {
    settings.set({ sound: e.currentTarget.checked });
    if (settings.sound) chime();
  };
  return html`<dialog ref=${dialog} class="card settings" aria-labelledby="settings-title" data-testid="settings-dialog" onClose=${close}
    onClick=${(e) => e.target === dialog.current && close()}>
    <div class="inner">
      <div class="title"><h2 id="settings-title">Settings</h2><button type="button" class="iconbutton" data-testid="settings-close" aria-label="Close" onClick=${close}><${Icon} name="close" /></button></div>
      <p class="hint">You are <b><bdi>${me}</bdi></b>.</p>
      ${app.mode !== 'jwt' && html`<button type="button" class="quiet" data-testid="switch-name" onClick=${() => { close(); app.ask(''); }}>Switch name</button>`}
      <label for="notify">Desktop notifications</label>
      <select id="notify" data-testid="notify" value=${settings.notify} aria-describedby="notify-trouble" onChange=${choose}>
        <option value="off">Off</option>
        <option value="mine">Private messages and mentions</option>
        <option value="all">Every message</option>
      </select>
      <p id="notify-trouble" role="alert" class="error">${trouble}</p>
      <label class="check"><input type="checkbox" data-testid="sound" checked=${settings.sound} onChange=${sound} /> Sound for new messages</label>
      <h3>Keys</h3>
      <dl class="keys">${KEYS.map(([keys, what]) => html`<div><dt>${keys.split(' ').map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl>
    </div>
  </dialog>`;
}
