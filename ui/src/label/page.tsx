// The labeling screen.
import { useSignalEffect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, duration, t } from "../lib/i18n.ts";
import { Icon } from "../lib/icons.tsx";
import type { CommandId } from "../lib/commands.ts";
import { useCommands } from "../lib/keys.ts";
import { lazy } from "../lib/lazy.tsx";
import { refused, stuck, waiting } from "../lib/outbox.ts";
import { Button, Failure, Later } from "../lib/parts.tsx";
import { complain, say } from "../lib/say.tsx";
import { me } from "../lib/session.ts";
import { openHelp } from "../lib/help.ts";
import { ThemeButton, useAppKeys, Wordmark } from "../lib/shell.tsx";
import { textOf, type Mode } from "../text/reader.tsx";
import { Bar } from "./bar.tsx";
import { Desk } from "./desk.ts";
import { layoutOf } from "./layout.ts";
import { TaskView, type View } from "./task.tsx";

export const fetchAside = () => import("./aside.tsx");
const SkipDialog = lazy(() => fetchAside().then((m) => m.SkipDialog));
const FlagDialog = lazy(() => fetchAside().then((m) => m.FlagDialog));
const GuidelinesDialog = lazy(() => fetchAside().then((m) => m.GuidelinesDialog));
const ToolsDialog = lazy(() => fetchAside().then((m) => m.ToolsDialog));
const PauseDialog = lazy(() => fetchAside().then((m) => m.PauseDialog));
const Nothing = lazy(() => fetchAside().then((m) => m.Nothing));

function Progress({ desk }: { desk: Desk }): JSX.Element {
  const m = desk.mine.value;
  const total = m ? m.today + m.available : 0;
  const pace = desk.pace.value;
  return (
    <span class="progress-text">
      {m && t("label.today", { done: count(m.today), total: count(total) })}
      {m && pace !== null && m.available > 0 && <span class="left">{t("label.left", { time: duration(pace * m.available) })}</span>}
    </span>
  );
}

function Sync(): JSX.Element | null {
  if (!stuck.value || waiting.value === 0) return null;
  return <span class="badge-text" role="status" title={t("sync.title")}><Icon name="cloud" />{t("sync.waiting", { n: waiting.value })}</span>;
}

function Header({ desk, onGuidelines, onTools }: { desk: Desk; onGuidelines: () => void; onTools: () => void }): JSX.Element {
  const d = desk.dataset.value;
  const m = desk.mine.value;
  const total = m ? m.today + m.available : 0;
  return (
    <header class="bar">
      <Wordmark />
      <h1 class="where">{d?.name ?? "\u00a0"}</h1>
      <span class="grow" />
      <Sync />
      <Progress desk={desk} />
      <Button tone="quiet" command="guidelines" onClick={onGuidelines}>{t("guidelines")}</Button>
      <Button tone="quiet" command="help" class="wide-only" onClick={openHelp}>{t("keys")}</Button>
      <button type="button" class="icon-button" aria-haspopup="dialog" aria-label={t("label.tools")} title={t("label.tools")} onClick={onTools}><Icon name="more" /></button>
      <ThemeButton />
      <div class="day" role="progressbar" aria-label={t("label.progress")} aria-valuemin={0} aria-valuemax={total || 1} aria-valuenow={m?.today ?? 0}>
        <i style={{ transform: `scaleX(${total ? (m?.today ?? 0) / total : 0})` }} />
      </div>
    </header>
  );
}

export default function LabelPage({ id }: { id: string }): JSX.Element {
  const desk = useMemo(() => new Desk(id, me.value!.user.id), [id]);
  const [dialog, setDialog] = useState<"skip" | "flag" | "guidelines" | "tools" | null>(null);
  const [mode, setMode] = useState<Mode>("rich");
  const [diff, setDiff] = useState<Record<string, string> | null>(null);
  const [sync, setSync] = useState(false);
  const [open, setOpen] = useState(false);
  const [stacked, setStacked] = useState(false);
  const stage = useRef<HTMLDivElement>(null);
  useEffect(() => { void desk.open(); return () => desk.dispose(); }, [desk]);
  useAppKeys();
  useSignalEffect(() => {
    const r = refused.value;
    if (r) { refused.value = null; complain(t("sync.refused", { message: r.message })); }
  });

  const d = desk.dataset.value;
  const item = desk.items.value[0] ?? null;
  document.title = d ? `${d.name} · Podium` : "Podium";
  useEffect(() => { setDiff(null); setOpen(false); }, [item]);

  const cards = (): HTMLElement[] => [...(stage.current?.querySelectorAll<HTMLElement>(".task:not([inert]) .answer .text") ?? [])];
  const step = (by: 1 | -1): void => {
    const all = cards();
    const at = all.findIndex((c) => c === document.activeElement || c.parentElement?.contains(document.activeElement));
    const to = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
    to?.focus();
    to?.scrollIntoView({ block: "nearest", inline: "center" });
  };
  const toggleDiff = async (): Promise<void> => {
    if (diff) { setDiff(null); return; }
    const order = item?.task.order ?? [];
    if (!item || order.length < 2) return;
    const { compare } = await import("../text/diff.ts");
    const focused = cards().findIndex((c) => c === document.activeElement);
    const first = order[0]!;
    const other = order[focused > 0 ? focused : 1]!;
    const made = compare(textOf(item.task.record.fields[first]), textOf(item.task.record.fields[other]));
    if (made) setDiff({ [first]: made[0], [other]: made[1] });
    else say(t("label.tooDifferent"));
  };

  const commands: Partial<Record<CommandId, () => void>> = {
    submit: () => desk.submit(), skip: () => item && setDialog("skip"), flag: () => item && setDialog("flag"),
    why: () => document.getElementById("why")?.focus(),
    leave: () => { if (document.activeElement instanceof HTMLElement) document.activeElement.blur(); desk.saveNow(); },
    discard: () => desk.skip("other"), undo: () => desk.undo(), redo: () => desk.redo(),
    save: () => { desk.saveNow(); say(t("label.saved"), { ms: 1500 }); },
    previous: () => void desk.previous(), next: () => void desk.next(), nextAnswer: () => step(1), previousAnswer: () => step(-1),
    raw: () => setMode(mode === "raw" ? "rich" : "raw"), diff: () => void toggleDiff(), sync: () => { setSync(!sync); say(t(sync ? "label.syncOff" : "label.syncOn"), { ms: 1500 }); },
    prompt: () => setOpen(!open), guidelines: () => setDialog("guidelines"), layout: () => setStacked(!stacked), pause: () => desk.pause(),
  };
  useCommands("label", commands);

  const view: View = { mode, diff, sync, open, stacked, toggleOpen: () => setOpen(!open) };
  const layout = d ? layoutOf(d) : null;
  return (
    <div class={`desk${layout?.panel ? " with-panel" : ""}`}>
      <a class="skip-link" href="#main">{t("skipLink")}</a>
      <Header desk={desk} onGuidelines={() => setDialog("guidelines")} onTools={() => setDialog("tools")} />
      <main id="main" tabIndex={-1} aria-label={t("label.main")}>
        {d && item && desk.leaseLost.value === item.task.record.id && <p class="notice" role="status">{t("label.leaseLost")}</p>}
        {item?.revisit && <p class="notice" role="status">{t("label.revisit")} <Button tone="quiet" command="next" onClick={() => void desk.next()}>{t("label.back")}</Button></p>}
        <div class="stage" ref={stage}>
          {d && layout && desk.items.value.map((x, i) => <TaskView key={x.task.record.id} item={x} dataset={d} layout={layout} desk={desk} front={i === 0} view={view} />)}
          {!item && (desk.error.value ? <div class="nothing"><Failure message={desk.error.value} again={() => void desk.open()} /></div>
            : desk.empty.value && d ? <Nothing desk={desk} dataset={d} /> : <div class="nothing" aria-busy="true"><Later><p class="quiet">{t("loading")}</p></Later></div>)}
        </div>
      </main>
      {d && layout && item ? <Bar key={item.task.record.id} desk={desk} dataset={d} layout={layout} item={item} onSkip={() => setDialog("skip")} onFlag={() => setDialog("flag")} /> : <footer class="answer-bar empty" />}
      {dialog === "skip" && item && <SkipDialog onClose={() => setDialog(null)} onSkip={(r) => { setDialog(null); desk.skip(r); }} />}
      {dialog === "flag" && item && <FlagDialog flag={item.work.value.flag} onClose={() => setDialog(null)} onFlag={(f) => { setDialog(null); desk.edit((w) => ({ ...w, flag: f })); }} />}
      {dialog === "guidelines" && d && <GuidelinesDialog dataset={d} onClose={() => setDialog(null)} />}
      {dialog === "tools" && <ToolsDialog on={{ raw: mode === "raw", diff: diff !== null, sync, layout: stacked, prompt: open }} run={commands} onClose={() => setDialog(null)} />}
      {desk.paused.value && <PauseDialog onClose={() => desk.pause()} />}
    </div>
  );
}
