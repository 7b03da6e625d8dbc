// Every key that works on this screen, from the table that makes them work, and the place to change them.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import strings from "../strings/en/help.json" with { type: "json" };
import { messageOf, put } from "./api.ts";
import { type CommandId, COMMANDS, type Scope } from "./commands.ts";
import { helpFor } from "./help.ts";
import { addStrings, t, type Key } from "./i18n.ts";
import { chosenKeys, keyLabel, keysOf, nameOf, setSingleKeys, singleKeys } from "./keys.ts";
import { Button, Dialog } from "./parts.tsx";
import { canChange, isReserved, type Keys, LEFT_HAND, takenBy, withKey } from "./remap.ts";
import { announce, complain } from "./say.tsx";

addStrings(strings);

const DIGITS: Partial<Record<Scope, { label: Key; keys: number[] }>> = {
  pair: { label: "key.digit.pair", keys: [1, 2, 3, 4, 5, 6, 7] }, rank: { label: "key.digit.rank", keys: [1, 2, 3, 4, 5, 6, 7, 8, 9] },
  question: { label: "key.digit", keys: [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] },
};
const digitOf = (n: number): CommandId => `digit${n}` as CommandId;
const nameOfCommand = (id: CommandId): string => (id.startsWith("digit") ? `${t("help.numbers")} ${id.slice(5)}` : t(`key.${id}` as Key));

/** On their own they are no key yet. */
const MODIFIERS = new Set(["Shift", "Control", "Alt", "AltGraph", "Meta", "CapsLock"]);

interface Change { id: CommandId | null; problem: string | null; ask: (id: CommandId) => void }

/** The key caps of a command: the first can be changed. */
function Caps({ id, change }: { id: CommandId; change: Change }): JSX.Element {
  const keys = keysOf(id);
  const others = keys.slice(1).filter((k) => k !== keys[0] && !keys.some((x) => k === `Shift+${x}`));
  const asked = change.id === id;
  return (
    <>
      {canChange(id)
        ? <button type="button" class={`cap${asked ? " asked" : ""}${chosenKeys.value[id] ? " chosen" : ""}`} aria-label={t("help.change", { label: nameOfCommand(id), key: keyLabel(keys[0]!) })} onClick={() => change.ask(id)}>
          <kbd aria-hidden="true">{asked ? t("help.press") : keyLabel(keys[0]!)}</kbd></button>
        : <kbd>{keyLabel(keys[0]!)}</kbd>}
      {others.map((k) => <kbd key={k}>{keyLabel(k)}</kbd>)}
    </>
  );
}

async function keepKeys(next: Keys): Promise<void> {
  const before = chosenKeys.value;
  chosenKeys.value = next;
  try {
    await put("/me/keys", { keys: next });
  } catch (e) {
    chosenKeys.value = before;
    complain(messageOf(e));
  }
}

/** The next key pressed becomes the key of the command that was asked for, if it may. */
function useChange(): Change {
  const [id, setId] = useState<CommandId | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useLayoutEffect(() => { // at once: between the paint and a later effect, Escape would still close the sheet
    if (!id) return;
    const hear = (e: KeyboardEvent): void => {
      if (e.isComposing || e.key === "Dead") return;
      if (MODIFIERS.has(e.key)) return;
      const key = nameOf(e);
      e.preventDefault();
      e.stopImmediatePropagation();
      if (e.repeat) return;
      if (e.key === "Escape") { setId(null); setProblem(null); return; }
      const other = takenBy(id, key, chosenKeys.value);
      if (isReserved(key)) { setProblem(t("help.reserved", { key: keyLabel(key) })); return; }
      if (other) { setProblem(t("help.taken", { key: keyLabel(key), label: nameOfCommand(other) })); return; }
      setId(null);
      setProblem(null);
      announce(t("help.changed", { label: nameOfCommand(id), key: keyLabel(key) }));
      void keepKeys(withKey(chosenKeys.value, id, key));
    };
    const away = (): void => { setId(null); setProblem(null); };
    addEventListener("keydown", hear, true);
    addEventListener("pointerdown", away, true);
    return () => { removeEventListener("keydown", hear, true); removeEventListener("pointerdown", away, true); };
  }, [id]);
  return { id, problem, ask: (next) => { setProblem(null); setId(next); } };
}

export default function Help({ scopes }: { scopes: Scope[] }): JSX.Element {
  const change = useChange();
  const groups = (["pair", "rank", "question", "label", "run", "records", "app"] as Scope[]).filter((s) => scopes.includes(s));
  const rows = (s: Scope): CommandId[] => (Object.keys(COMMANDS) as CommandId[]).filter((id) => COMMANDS[id].scope === s && !id.startsWith("digit"));
  const changed = Object.keys(chosenKeys.value).length > 0;
  return (
    <Dialog title={t("help.title")} onClose={() => { helpFor.value = null; }} wide>
      <p class={change.problem ? "change-line problem" : "change-line"} role={change.problem ? "alert" : undefined}>{change.problem ?? t("help.how")}</p>
      <div class="keys">
        {groups.map((s) => (
          <section key={s}>
            <h3>{t(`scope.${s}` as Key)}</h3>
            <table><tbody>
              {DIGITS[s] && <tr class="digits"><td>{t(DIGITS[s].label)}</td><td>{DIGITS[s].keys.map((n) => <Caps key={n} id={digitOf(n)} change={change} />)}</td></tr>}
              {rows(s).map((id) => <tr key={id}><td>{nameOfCommand(id)}</td><td><Caps id={id} change={change} /></td></tr>)}
            </tbody></table>
          </section>
        ))}
      </div>
      <div class="key-sets">
        <label class="check"><input type="checkbox" checked={singleKeys.value} onChange={(e) => setSingleKeys(e.currentTarget.checked)} /> {t("help.single")}</label>
        <span class="grow" />
        <Button class="small" onClick={() => void keepKeys(LEFT_HAND)}>{t("help.left")}</Button>
        <Button class="small" disabled={!changed} onClick={() => void keepKeys({})}>{t("help.resetAll")}</Button>
      </div>
    </Dialog>
  );
}
