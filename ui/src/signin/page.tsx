// Signing in: by password, or by a link whose token stands behind the # and is posted once.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { messageOf } from "../lib/api.ts";
import strings from "../strings/en/signin.json" with { type: "json" };
import { addStrings, t } from "../lib/i18n.ts";
import { Mark } from "../lib/icons.tsx";
import { Button, Dialog } from "../lib/parts.tsx";
import { flush } from "../lib/outbox.ts";
import { go, path } from "../lib/router.tsx";
import { me, signIn } from "../lib/session.ts";

addStrings(strings);

function Form({ name, done }: { name?: string; done: () => void }): JSX.Element {
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const first = useRef<HTMLInputElement>(null);
  useEffect(() => first.current?.focus(), []);
  const submit = async (e: SubmitEvent): Promise<void> => {
    e.preventDefault();
    const data = new FormData(e.currentTarget as HTMLFormElement);
    setBusy(true);
    setError(null);
    try {
      await signIn({ username: String(data.get("username")), password: String(data.get("password")) });
      done();
    } catch (x) {
      setError(messageOf(x));
      setBusy(false);
    }
  };
  return (
    <form class="stack" onSubmit={(e) => void submit(e as unknown as SubmitEvent)}>
      <label class="field"><span>{t("signIn.username")}</span><input name="username" autocomplete="username" autocapitalize="none" spellcheck={false} required defaultValue={name ?? ""} ref={name ? null : first} /></label>
      <label class="field"><span>{t("signIn.password")}</span><input name="password" type="password" autocomplete="current-password" required ref={name ? first : null} /></label>
      <p class="field-error" role="alert">{error}</p>
      <Button tone="primary" submit disabled={busy}>{t("signIn")}</Button>
    </form>
  );
}

export function SignInPage(): JSX.Element {
  const token = path.value === "/sign-in" ? location.hash.slice(1) : "";
  const [linkError, setLinkError] = useState<string | null>(null);
  const [trying, setTrying] = useState(token !== "");
  document.title = `${t("signIn")} · Podium`;
  const enter = (): void => { if (path.value === "/sign-in") go("/", true); };
  useEffect(() => {
    if (!token) { if (me.value) enter(); return; }
    history.replaceState(null, "", "/sign-in"); // the token leaves the address bar at once
    signIn({ token }).then(enter, (e: unknown) => { setLinkError(messageOf(e)); setTrying(false); });
  }, []);
  return (
    <main class="centre">
      <section class="card sign-in">
        <h1><Mark /> Podium</h1>
        {trying ? <p class="quiet" role="status">{t("signIn.link")}</p> : (
          <>
            {linkError && <p class="notice error" role="alert">{linkError} {t("signIn.linkHint")}</p>}
            <Form done={enter} />
          </>
        )}
      </section>
    </main>
  );
}

/** The session ended under somebody's hands: the page behind stays as it is. */
export function SignInAgain(): JSX.Element {
  return (
    <Dialog title={t("signIn.again")} onClose={() => {}}>
      <p class="quiet">{t("signIn.againText")}</p>
      <Form {...(me.value ? { name: me.value.user.username } : {})} done={() => void flush()} />
    </Dialog>
  );
}
