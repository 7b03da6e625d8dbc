// Guidelines: written beside what labelers will see; every save is a new version.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { messageOf, put } from "../lib/api.ts";
import { t } from "../lib/i18n.ts";
import { Button, Dialog } from "../lib/parts.tsx";
import { say } from "../lib/say.tsx";
import type { Dataset } from "../lib/types.ts";
import { Reader } from "../text/reader.tsx";

export function GuidelinesDialog({ dataset, onClose, onDone }: { dataset: Dataset; onClose: () => void; onDone: () => void }): JSX.Element {
  const [text, setText] = useState(dataset.guidelines.text ?? "");
  const [error, setError] = useState<string | null>(null);
  const save = async (): Promise<void> => {
    try {
      const g = await put<{ version: number }>(`/datasets/${dataset.id}/guidelines`, { text });
      say(t("guidelines.saved", { n: g.version }));
      onDone();
      onClose();
    } catch (e) {
      setError(messageOf(e));
    }
  };
  return (
    <Dialog title={t("guidelines.edit")} onClose={onClose} wide>
      <div class="split">
        <label class="field"><span>{t("guidelines.text")}</span><textarea rows={16} maxLength={10000} dir="auto" value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
        <section aria-label={t("guidelines.preview")}><h3>{t("guidelines.preview")}</h3><Reader text={text} rich /></section>
      </div>
      <p class="field-error" role="alert">{error}</p>
      <div class="actions"><Button onClick={onClose}>{t("cancel")}</Button><Button tone="primary" disabled={text === (dataset.guidelines.text ?? "")} onClick={() => void save()}>{t("save")}</Button></div>
    </Dialog>
  );
}
