// What stands beside a task and is asked for now and then: skipping, flagging, guidelines, a pause, nothing left to do. A chunk of its own,
// fetched when the page is idle.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import strings from "../strings/en/aside.json" with { type: "json" };
import { addStrings, count, t, type Key } from "../lib/i18n.ts";
import type { CommandId } from "../lib/commands.ts";
import { useCommands } from "../lib/keys.ts";
import { waiting } from "../lib/outbox.ts";
import { Button, Cap, Dialog } from "../lib/parts.tsx";
import { Link } from "../lib/router.tsx";
import type { Dataset, Flag, SkipReason } from "../lib/types.ts";
import { Reader } from "../text/reader.tsx";
import type { Desk } from "./desk.ts";

addStrings(strings);

const REASONS: SkipReason[] = ["unclear", "expertise", "language", "disturbing", "other"];
const FLAGS: Flag["kind"][] = ["harmful", "wrong_prompt", "duplicate", "personal_data", "other"];

function Choice({ n, text, onPick, on }: { n: number; text: string; onPick: () => void; on?: boolean }): JSX.Element {
  return <button type="button" class={`option${on ? " set" : ""}`} aria-pressed={on} onClick={onPick}><kbd aria-hidden="true">{n}</kbd>{text}</button>;
}

export function SkipDialog({ onClose, onSkip }: { onClose: () => void; onSkip: (r: SkipReason) => void }): JSX.Element {
  const pick = (i: number) => (): void => onSkip(REASONS[i]!);
  useCommands("dialog", { close: onClose, choose1: pick(0), choose2: pick(1), choose3: pick(2), choose4: pick(3), choose5: pick(4) });
  return (
    <Dialog title={t("skip.title")} onClose={onClose}>
      <p class="quiet">{t("skip.text")}</p>
      <div class="options">{REASONS.map((r, i) => <Choice key={r} n={i + 1} text={t(`skip.${r}` as Key)} onPick={pick(i)} />)}</div>
    </Dialog>
  );
}

export function FlagDialog({ flag, onClose, onFlag }: { flag: Flag | null; onClose: () => void; onFlag: (f: Flag | null) => void }): JSX.Element {
  const [text, setText] = useState(flag?.text ?? "");
  const pick = (i: number) => (): void => onFlag({ kind: FLAGS[i]!, ...(text.trim() ? { text: text.trim() } : {}) });
  useCommands("dialog", { close: onClose, choose1: pick(0), choose2: pick(1), choose3: pick(2), choose4: pick(3), choose5: pick(4) });
  return (
    <Dialog title={t("flag.title")} onClose={onClose}>
      <p class="quiet">{t("flag.text")}</p>
      <div class="options">{FLAGS.map((f, i) => <Choice key={f} n={i + 1} text={t(`flag.${f}` as Key)} on={flag?.kind === f} onPick={pick(i)} />)}</div>
      <label class="field"><span>{t("flag.note")}</span><textarea rows={2} maxLength={1000} dir="auto" value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
      {flag && <div class="actions"><Button onClick={() => onFlag(null)}>{t("flag.remove")}</Button></div>}
    </Dialog>
  );
}

export function GuidelinesDialog({ dataset, onClose }: { dataset: Dataset; onClose: () => void }): JSX.Element {
  const g = dataset.guidelines;
  return (
    <Dialog title={t("guidelines")} side onClose={onClose}>
      {g.text ? <><p class="quiet">{t("guidelines.version", { n: g.version })}</p><Reader text={g.text} rich /></> : <p class="quiet">{t("guidelines.none")}</p>}
    </Dialog>
  );
}

const TOOLS = ["raw", "diff", "sync", "layout", "prompt", "previous", "undo", "redo", "pause", "discard"] as const;

/** What the keys do, for the mouse and the finger. */
export function ToolsDialog({ on, run, onClose }: { on: Partial<Record<CommandId, boolean>>; run: Partial<Record<CommandId, () => void>>; onClose: () => void }): JSX.Element {
  return (
    <Dialog title={t("label.tools")} onClose={onClose}>
      <div class="options">
        {TOOLS.map((id) => (
          <button type="button" key={id} class={`option${on[id] ? " set" : ""}`} aria-pressed={on[id]} onClick={() => { onClose(); run[id]!(); }}>
            <span class="grow">{t(`tool.${id}` as Key)}</span><Cap of={id} />
          </button>
        ))}
      </div>
    </Dialog>
  );
}

export function PauseDialog({ onClose }: { onClose: () => void }): JSX.Element {
  return (
    <Dialog title={t("label.paused")} onClose={onClose}>
      <p>{t("label.pausedText")}</p>
      <div class="actions"><Button tone="primary" onClick={onClose}>{t("label.goOn")}</Button></div>
    </Dialog>
  );
}

/** Nothing to label: why, and what to do next. */
export function Nothing({ desk, dataset }: { desk: Desk; dataset: Dataset }): JSX.Element {
  const e = desk.empty.value!;
  const m = desk.mine.value;
  const at = e.retry_at ? Math.max(0, Math.round((Date.parse(e.retry_at) - Date.now()) / 60_000)) : null;
  return (
    <div class="nothing">
      <h2>{t(`empty.${e.reason}` as Key)}</h2>
      <p>{e.reason === "reserved" && at !== null ? t("empty.reserved.when", { n: Math.max(1, at) }) : t(`empty.${e.reason}.text` as Key)}</p>
      {m && m.today > 0 && <p class="quiet">{t("empty.yours", { today: count(m.today), total: count(m.submitted) })}</p>}
      {waiting.value > 0 && <p class="quiet">{t("sync.waiting", { n: waiting.value })}</p>}
      <div class="actions">
        <Button command="undo" onClick={() => void desk.undoSubmit()}>{t("label.reopenLast")}</Button>
        {e.reason === "reserved" || e.reason === "no_records" || e.reason === "draft" ? <Button onClick={() => void desk.fill()}>{t("label.lookAgain")}</Button> : null}
        <Link href={dataset.lead ? `/datasets/${dataset.id}` : "/"} class="button primary">{t(dataset.lead ? "label.toDataset" : "label.toDatasets")}</Link>
      </div>
    </div>
  );
}
