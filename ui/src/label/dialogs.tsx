// Why a task is skipped, and what is wrong with one that is flagged.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { t, type Key } from "../lib/i18n.ts";
import { useCommands } from "../lib/keys.ts";
import { Button, Dialog } from "../lib/parts.tsx";
import type { Flag, SkipReason } from "../lib/types.ts";

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
