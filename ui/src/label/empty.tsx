// Nothing to label: why, and what to do next.
import type { JSX } from "preact";
import { count, t, type Key } from "../lib/i18n.ts";
import { Button } from "../lib/parts.tsx";
import { Link } from "../lib/router.tsx";
import { waiting } from "../lib/outbox.ts";
import type { Dataset } from "../lib/types.ts";
import type { Desk } from "./desk.ts";

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
