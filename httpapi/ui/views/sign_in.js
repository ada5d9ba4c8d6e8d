// Who one is: the form for a name, or where to sign in.
import { html, useEffect, useRef, useState } from '../lib/html.js';
import { nameProblem } from '../lib/names.js';
import { Logo } from './parts.js';

/** SignInElsewhere is for servers that know people by another login. */
export function SignInElsewhere({ app }) {
  return html`<main class="welcome">
    <div class="card" data-testid="sign-in-elsewhere">
      <${Logo} />
      <h1>Please sign in</h1>
      ${app.form.error && html`<p class="error" role="alert">${app.form.error}</p>`}
      ${app.login
        ? html`<p class="hint">You need your account to join the conversation.</p><a class="primary" data-testid="login" href=${app.login}>Sign in</a>`
        : html`<p class="hint">This chat belongs to another site. Sign in there, then come back.</p>`}
      <button type="button" class="quiet" data-testid="try-again" onClick=${app.again}>Try again</button>
    </div>
  </main>`;
}

/** NameForm asks for a name; over a chat, for another one. */
export function NameForm({ app }) {
  const { form, chat } = app;
  const [name, setName] = useState(form.name);
  const [problem, setProblem] = useState('');
  const input = useRef();
  const error = problem || form.error;
  useEffect(() => input.current.focus(), []);
  // Back to the field when the server said no, ready to type another name.
  useEffect(() => {
    if (form.error) input.current.select();
  }, [form]);

  const submit = (e) => {
    e.preventDefault();
    if (form.busy) return;
    const typed = input.current.value.normalize('NFC').trim();
    const wrong = nameProblem(typed);
    setProblem(wrong);
    if (wrong) input.current.focus();
    else app.signIn(typed);
  };
  return html`<main class="welcome">
    <form class="card" data-testid="name-form" onSubmit=${submit} noValidate>
      <${Logo} />
      <h1>${chat ? 'Switch name' : 'Welcome to Burrow'}</h1>
      <p class="hint">${chat ? html`You are <b><bdi>${chat.me}</bdi></b> now.` : 'Pick a name and join the conversation.'}</p>
      <label for="name">Your name</label>
      <input id="name" ref=${input} data-testid="name-input" value=${name} maxlength="128" autocomplete="nickname" autocapitalize="off" spellcheck=${false}
        required aria-describedby="name-error name-hint" aria-invalid=${error ? 'true' : 'false'}
        onInput=${(e) => { setName(e.currentTarget.value); setProblem(''); form.error = ''; }} />
      <div id="name-error" role="alert">${error && html`<p class="error" data-testid="name-error">${error}</p>`}</div>
      <p id="name-hint" class="hint">Letters, digits, spaces and _ - . @, up to 64 characters.</p>
      <button class="primary" data-testid="name-submit" aria-disabled=${form.busy ? 'true' : 'false'}>${form.busy ? 'Joining…' : 'Join the chat'}</button>
      ${chat && html`<button type="button" class="quiet" onClick=${app.cancel}>Stay ${chat.me}</button>`}
    </form>
  </main>`;
}
