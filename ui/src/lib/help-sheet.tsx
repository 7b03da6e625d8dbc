// Every key that works on this screen, from the table that makes them work.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import strings from "../strings/en/help.json" with { type: "json" };
import { type CommandId, COMMANDS, type Scope } from "./commands.ts";
import { helpFor } from "./help.ts";
import { addStrings, t, type Key } from "./i18n.ts";
import { keyLabel, setSingleKeys, singleKeys } from "./keys.ts";
import { Dialog } from "./parts.tsx";

addStrings(strings);

const DIGITS: Partial<Record<Scope, { label: Key; keys: string }>> = {
  pair: { label: "key.digit.pair", keys: "1 … 7" }, rank: { label: "key.digit.rank", keys: "1 … 9" }, question: { label: "key.digit", keys: "1 … 9" },
};

function Row({ id }: { id: CommandId }): JSX.Element {
  const c = COMMANDS[id];
  return <tr><td>{t(c.label)}</td><td>{c.keys.filter((k) => !c.keys.some((x) => x !== k && k === `Shift+${x}`)).map((k) => <kbd key={k}>{keyLabel(k)}</kbd>)}</td></tr>;
}

export default function Help({ scopes }: { scopes: Scope[] }): JSX.Element {
  const groups = (["pair", "rank", "question", "label", "run", "records", "app"] as Scope[]).filter((s) => scopes.includes(s));
  const rows = (s: Scope): CommandId[] => {
    return (Object.keys(COMMANDS) as CommandId[]).filter((id) => COMMANDS[id].scope === s && !id.startsWith("digit"));
  };
  return (
    <Dialog title={t("help.title")} onClose={() => { helpFor.value = null; }} wide>
      <div class="keys">
        {groups.map((s) => (
          <section key={s}>
            <h3>{t(`scope.${s}` as Key)}</h3>
            <table><tbody>{DIGITS[s] && <tr><td>{t(DIGITS[s].label)}</td><td><kbd>{DIGITS[s].keys}</kbd></td></tr>}{rows(s).map((id) => <Row key={id} id={id} />)}</tbody></table>
          </section>
        ))}
      </div>
      <label class="check"><input type="checkbox" checked={singleKeys.value} onChange={(e) => setSingleKeys(e.currentTarget.checked)} /> {t("help.single")}</label>
    </Dialog>
  );
}
