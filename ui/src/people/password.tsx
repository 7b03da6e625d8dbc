// One's own password: set after coming in by a link, or changed.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { messageOf, put } from "../lib/api.ts";
import { t } from "../lib/i18n.ts";
import { Button, Dialog } from "../lib/parts.tsx";
import { say } from "../lib/say.tsx";
import { me } from "../lib/session.ts";

export function PasswordDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const [error, setError] = useState<string | null>(null);
  const has = me.value?.user.has_password ?? false;
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    const data = new FormData(e.currentTarget as HTMLFormElement);
    const old = String(data.get("old") ?? "");
    try {
      await put("/me/password", { ...(old ? { old } : {}), new: String(data.get("new")) });
      me.value = { ...me.value!, user: { ...me.value!.user, has_password: true } };
      say(t("password.done"));
      onClose();
    } catch (x) {
      setError(messageOf(x));
    }
  };
  return (
    <Dialog title={t(has ? "password.change" : "password.set")} onClose={onClose}>
      {!has && <p class="quiet">{t("password.why")}</p>}
      <form class="stack" onSubmit={(e) => void submit(e)}>
        <input class="spoken" name="username" autocomplete="username" value={me.value?.user.username ?? ""} readOnly tabIndex={-1} aria-label={t("signIn.username")} />
        {has && <label class="field"><span>{t("password.old")}</span><input name="old" type="password" autocomplete="current-password" /><small class="quiet">{t("password.oldHint")}</small></label>}
        <label class="field"><span>{t("password.new")}</span><input name="new" type="password" autocomplete="new-password" minLength={8} maxLength={100} required /></label>
        <p class="field-error" role="alert">{error}</p>
        <div class="actions"><Button onClick={onClose}>{t("cancel")}</Button><Button tone="primary" submit>{t("save")}</Button></div>
      </form>
    </Dialog>
  );
}
