// A new dataset, and files into one.
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { call, messageOf, post, uuid } from "../lib/api.ts";
import { count, t } from "../lib/i18n.ts";
import { Button, Dialog } from "../lib/parts.tsx";
import { go } from "../lib/router.tsx";
import { say } from "../lib/say.tsx";
import type { Dataset } from "../lib/types.ts";

export function CreateDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const [kind, setKind] = useState("pairwise");
  const [error, setError] = useState<string | null>(null);
  const id = useRef(uuid());
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    const data = new FormData(e.currentTarget as HTMLFormElement);
    try {
      const d = await post<Dataset>("/datasets", { id: id.current, name: String(data.get("name")).trim(), template: kind, ...(kind === "ranking" ? { answers: Number(data.get("answers")) } : {}) });
      go(`/datasets/${d.id}`);
    } catch (x) {
      id.current = uuid();
      setError(messageOf(x));
    }
  };
  return (
    <Dialog title={t("home.new")} onClose={onClose}>
      <form class="stack" onSubmit={(e) => void submit(e)}>
        <label class="field"><span>{t("create.name")}</span><input name="name" required maxLength={200} autocomplete="off" /></label>
        <label class="field"><span>{t("create.template")}</span>
          <select name="template" value={kind} onChange={(e) => setKind(e.currentTarget.value)}>
            <option value="pairwise">{t("create.pairwise")}</option><option value="ranking">{t("create.ranking")}</option><option value="rating">{t("create.rating")}</option>
          </select>
        </label>
        {kind === "ranking" && <label class="field"><span>{t("create.answers")}</span><input name="answers" type="number" min={3} max={9} value={3} required /></label>}
        <p class="field-error" role="alert">{error}</p>
        <div class="actions"><Button onClick={onClose}>{t("cancel")}</Button><Button tone="primary" submit>{t("create.go")}</Button></div>
      </form>
    </Dialog>
  );
}

export function ImportDialog({ dataset, onClose, onDone }: { dataset: string; onClose: () => void; onDone: () => void }): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const [bad, setBad] = useState<string[]>([]);
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    const file = (e.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>("input[type=file]")?.files?.[0];
    if (!file) return;
    setBusy(true);
    setError(null);
    try {
      const r = await call<{ shape: string; records: number; skipped: number; errors: string[] }>("POST", `/datasets/${dataset}/import?name=${encodeURIComponent(file.name)}`, { raw: file });
      say(t("import.done", { n: r.records, skipped: count(r.skipped) }));
      onDone();
      if (r.errors.length) { setBad(r.errors); setBusy(false); } else onClose();
    } catch (x) {
      setError(messageOf(x));
      setBusy(false);
    }
  };
  return (
    <Dialog title={t("import.title")} onClose={onClose}>
      <p class="quiet">{t("import.text")}</p>
      <form class="stack" onSubmit={(e) => void submit(e)}>
        <label class="field"><span>{t("import.file")}</span><input type="file" accept=".jsonl,.json,.csv,.tsv,.gz,.txt" required /></label>
        <p class="field-error" role="alert">{error}</p>
        {bad.length > 0 && <ul class="bad-lines">{bad.map((b) => <li key={b}><code>{b}</code></li>)}</ul>}
        <div class="actions"><Button onClick={onClose}>{t(bad.length ? "close" : "cancel")}</Button><Button tone="primary" submit disabled={busy}>{t("import.go")}</Button></div>
      </form>
    </Dialog>
  );
}
