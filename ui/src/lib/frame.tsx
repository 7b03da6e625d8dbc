// The frame of the lead's and engineer's screens.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { openHelp } from "./help.ts";
import { addStrings, t } from "./i18n.ts";
import { addIcons, Icon } from "./icons.tsx";
import { Link, path } from "./router.tsx";
import { me, signOut } from "./session.ts";
import { PasswordDialog } from "../people/password.tsx";
import { ThemeButton, useAppKeys, Wordmark } from "./shell.tsx";
import strings from "../strings/en/lead.json" with { type: "json" };

addStrings(strings);
addIcons({
  down2: "M5 8l5 5 5-5", check: "M4 10.5l4 4 8-9", stop: "M5.5 5.5h9v9h-9z", play: "M6 4.5l9 5.5-9 5.5z", download: "M10 3v10M5.5 9 10 13.5 14.5 9M4 17h12",
});

/** A button that opens a short list of actions. */
export function Menu({ label, children }: { label: ComponentChildren; children: (close: () => void) => ComponentChildren }): JSX.Element {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const close = (): void => { setOpen(false); box.current?.querySelector("button")?.focus(); };
  useEffect(() => {
    if (!open) return;
    const items = (): HTMLElement[] => [...box.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
    items()[0]?.focus();
    const away = (e: Event): void => { if (!box.current?.contains(e.target as Node)) setOpen(false); };
    const key = (e: KeyboardEvent): void => {
      if (e.key === "Escape") { e.preventDefault(); close(); }
      if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
      e.preventDefault();
      const all = items();
      const at = all.indexOf(document.activeElement as HTMLElement);
      all[(at + (e.key === "ArrowDown" ? 1 : all.length - 1)) % all.length]?.focus();
    };
    addEventListener("pointerdown", away);
    addEventListener("focusin", away);
    addEventListener("keydown", key, true);
    return () => { removeEventListener("pointerdown", away); removeEventListener("focusin", away); removeEventListener("keydown", key, true); };
  }, [open]);
  return (
    <div class="menu" ref={box}>
      <button type="button" class="button plain" aria-haspopup="menu" aria-expanded={open} onClick={() => setOpen(!open)}>{label}<Icon name="down2" /></button>
      {open && <div class="sheet" role="menu">{children(close)}</div>}
    </div>
  );
}

/** Loads when its inputs change; what was there before stays until the new answer comes. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, inputs: unknown[], everyMs = 0): { value: T | null; error: string | null; again: () => void } {
  const [state, set] = useState<{ value: T | null; error: string | null }>({ value: null, error: null });
  const [turn, next] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const run = (): void => {
      load(stop.signal).then(
        (value) => set({ value, error: null }),
        (e: unknown) => { if (!stop.signal.aborted) set((s) => ({ value: s.value, error: e instanceof Error ? e.message : String(e) })); },
      ).finally(() => { if (everyMs && !stop.signal.aborted) timer = window.setTimeout(tick, everyMs); });
    };
    const tick = (): void => { if (document.hidden) timer = window.setTimeout(tick, everyMs); else run(); };
    run();
    return () => { stop.abort(); clearTimeout(timer); };
  }, [...inputs, turn]);
  return { ...state, again: () => next((n) => n + 1) };
}

export function Meter({ share, label, tone }: { share: number; label: string; tone?: "caution" }): JSX.Element {
  return <span class={`meter ${tone ?? ""}`} role="img" aria-label={label}><i style={{ width: `${Math.max(0, Math.min(1, share)) * 100}%` }} /></span>;
}

export function Shell({ title, children, wide }: { title: string; children: ComponentChildren; wide?: boolean }): JSX.Element {
  useAppKeys();
  document.title = `${title} · Podium`;
  const user = me.value?.user;
  const here = path.value;
  const [password, setPassword] = useState(false);
  const tab = (href: string, label: string, on: boolean): JSX.Element => <Link href={href} {...(on ? { "aria-current": "page" as const } : {})}>{label}</Link>;
  return (
    <div class={wide ? "page wide" : "page"}>
      <a class="skip-link" href="#main">{t("skipLink")}</a>
      <header class="bar">
        <Wordmark />
        <nav aria-label={t("nav")}>
          {tab("/", t("nav.datasets"), here === "/" || here.startsWith("/datasets"))}
          {user && user.role !== "annotator" && tab("/runs", t("nav.runs"), here.startsWith("/runs"))}
          {user && user.role !== "annotator" && tab("/users", t("nav.people"), here.startsWith("/users"))}
        </nav>
        <span class="grow" />
        <ThemeButton />
        <Menu label={<span class="who">{user?.username}</span>}>
          {(close) => (
            <>
              <button type="button" role="menuitem" onClick={() => { close(); openHelp(); }}>{t("help.title")}</button>
              <button type="button" role="menuitem" onClick={() => { close(); setPassword(true); }}>{t(user?.has_password ? "password.change" : "password.set")}</button>
              <button type="button" role="menuitem" onClick={() => void signOut()}>{t("signOut")}</button>
            </>
          )}
        </Menu>
      </header>
      <main id="main" tabIndex={-1}>{children}</main>
      {password && <PasswordDialog onClose={() => setPassword(false)} />}
    </div>
  );
}
