// Who may come in: a list, a form, and single-use links.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { ApiError, del, get, messageOf, post } from "../lib/api.ts";
import { Menu, Shell, useLoad } from "../lib/frame.tsx";
import { ago, t, tr, when } from "../lib/i18n.ts";
import { Button, Dialog, Failure, Later } from "../lib/parts.tsx";
import { complain, say } from "../lib/say.tsx";
import { me } from "../lib/session.ts";
import type { Person } from "../lib/types.ts";

interface Invite { url: string; expires_at: string }

function LinkDialog({ name, invite, onClose }: { name: string; invite: Invite; onClose: () => void }): JSX.Element {
  const copy = async (): Promise<void> => {
    try { await navigator.clipboard.writeText(invite.url); say(t("people.copied")); } catch { complain(t("people.copyFailed")); }
  };
  return (
    <Dialog title={t("people.link", { name })} onClose={onClose}>
      <p class="quiet">{t("people.linkText", { when: when(invite.expires_at) })}</p>
      <label class="field"><span>{t("people.linkLabel")}</span><input readOnly value={invite.url} onFocus={(e) => e.currentTarget.select()} /></label>
      <div class="actions"><Button tone="primary" onClick={() => void copy()}>{t("people.copy")}</Button></div>
    </Dialog>
  );
}

function AddDialog({ workspaces, onClose, onDone }: { workspaces: string[]; onClose: () => void; onDone: (p: Person) => void }): JSX.Element {
  const [error, setError] = useState<ApiError | Error | null>(null);
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    const data = new FormData(e.currentTarget as HTMLFormElement);
    try {
      onDone(await post<Person>("/users", { username: String(data.get("username")).trim(), role: String(data.get("role")), workspaces: data.getAll("workspace").map(String) }));
    } catch (x) {
      setError(x instanceof Error ? x : new Error(messageOf(x)));
    }
  };
  return (
    <Dialog title={t("people.add")} onClose={onClose}>
      <form class="stack" onSubmit={(e) => void submit(e)}>
        <label class="field"><span>{t("signIn.username")}</span><input name="username" required maxLength={100} autocomplete="off" autocapitalize="none" spellcheck={false} /></label>
        <label class="field"><span>{t("people.role")}</span><select name="role"><option value="annotator">{t("role.is.annotator")}</option><option value="admin">{t("role.is.admin")}</option><option value="owner">{t("role.is.owner")}</option></select></label>
        <fieldset class="checks"><legend>{t("people.workspaces")}</legend>{workspaces.map((w, i) => <label class="check" key={w}><input type="checkbox" name="workspace" value={w} defaultChecked={i === 0} /> {w}</label>)}</fieldset>
        <p class="field-error" role="alert">{error?.message}</p>
        <div class="actions"><Button onClick={onClose}>{t("cancel")}</Button><Button tone="primary" submit>{t("people.addGo")}</Button></div>
      </form>
    </Dialog>
  );
}

export default function People(): JSX.Element {
  const { value, error, again } = useLoad((s) => get<{ users: Person[]; workspaces: string[] }>("/users", s), []);
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState<Person | null>(null);
  const [link, setLink] = useState<{ name: string; invite: Invite } | null>(null);
  const invite = async (p: Person): Promise<void> => {
    try { setLink({ name: p.username, invite: await post<Invite>(`/users/${p.id}/invite`, {}) }); } catch (e) { complain(messageOf(e)); }
  };
  const remove = async (p: Person): Promise<void> => {
    setRemoving(null);
    try { await del(`/users/${p.id}`); again(); } catch (e) { complain(messageOf(e)); }
  };
  return (
    <Shell title={t("nav.people")}>
      <div class="head"><h1>{t("nav.people")}</h1><span class="grow" /><Button tone="primary" disabled={!value} onClick={() => setAdding(true)}>{t("people.add")}</Button></div>
      {error && <Failure message={error} again={again} />}
      {!value ? !error && <Later><p class="quiet">{t("loading")}</p></Later> : (
        <section class="card">
          <div class="scroll-x" tabIndex={0} role="region" aria-label={t("nav.people")}><table class="people">
            <thead><tr><th>{t("labelers.name")}</th><th>{t("people.role")}</th><th>{t("people.workspaces")}</th><th>{t("labelers.seen")}</th><th><span class="spoken">{t("more")}</span></th></tr></thead>
            <tbody>
              {value.users.map((p) => (
                <tr key={p.id}>
                  <td>{p.username}{p.name && p.name !== p.username && <small> {p.name}</small>}</td><td>{tr(`role.is.${p.role}`, p.role)}</td><td>{p.workspaces.join(", ") || "–"}</td><td class="nowrap">{p.signed_in ? ago(p.last_at) : t("people.notYet")}</td>
                  <td class="right">
                    <Menu label={<span class="spoken">{t("people.for", { name: p.username })}</span>}>
                      {(close) => (
                        <>
                          <button type="button" role="menuitem" onClick={() => { close(); void invite(p); }}>{t("people.invite")}</button>
                          {p.id !== me.value?.user.id && <button type="button" role="menuitem" onClick={() => { close(); setRemoving(p); }}>{t("people.remove")}</button>}
                        </>
                      )}
                    </Menu>
                  </td>
                </tr>
              ))}
            </tbody>
          </table></div>
        </section>
      )}
      {adding && value && <AddDialog workspaces={value.workspaces} onClose={() => setAdding(false)} onDone={(p) => { setAdding(false); again(); void invite(p); }} />}
      {removing && <Dialog title={t("people.removeTitle", { name: removing.username })} onClose={() => setRemoving(null)}><p>{t("people.removeText")}</p><div class="actions"><Button onClick={() => setRemoving(null)}>{t("cancel")}</Button><Button tone="danger" onClick={() => void remove(removing)}>{t("people.remove")}</Button></div></Dialog>}
      {link && <LinkDialog name={link.name} invite={link.invite} onClose={() => setLink(null)} />}
    </Shell>
  );
}
