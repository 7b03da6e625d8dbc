// The datasets one may label or lead.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { Shell, useLoad } from "../lib/frame.tsx";
import { ago, count, t } from "../lib/i18n.ts";
import { Button, Failure, Later } from "../lib/parts.tsx";
import { Link } from "../lib/router.tsx";
import { me } from "../lib/session.ts";
import type { DatasetHead } from "../lib/types.ts";
import { CreateDialog } from "./create.tsx";

function Row({ d, first }: { d: DatasetHead; first: boolean }): JSX.Element {
  const c = d.counts;
  const left = d.mine.available;
  return (
    <li class="card dataset-row">
      <div class="what">
        <h2><Link href={d.lead ? `/datasets/${d.id}` : `/datasets/${d.id}/label`}>{d.name}</Link></h2>
        <small>{[d.workspace, d.answers.length > 1 ? t("home.answers", { n: d.answers.length }) : "", t("home.active", { when: ago(d.updated_at) })].filter(Boolean).join(", ")}</small>
      </div>
      <div class="how">
        <span class="bar-of" role="img" aria-label={t("home.progress", { done: count(c.done), total: count(c.records) })}>
          <i class="done" style={{ width: `${c.records ? (c.done / c.records) * 100 : 0}%` }} /><i class="hand" style={{ width: `${c.records ? (c.in_hand / c.records) * 100 : 0}%` }} />
        </span>
        <small class="num">{t("home.progress", { done: count(c.done), total: count(c.records) })}</small>
      </div>
      <div class="actions">
        {d.lead && <Link class="button" href={`/datasets/${d.id}`}>{t("home.open")}</Link>}
        {left > 0 ? <Link class={`button${first ? " primary" : ""}`} href={`/datasets/${d.id}/label`}>{t("home.label", { n: left })}</Link> : <span class="quiet none">{t(c.records ? "home.nothing" : "home.empty")}</span>}
      </div>
    </li>
  );
}

export default function Home(): JSX.Element {
  const { value, error, again } = useLoad((s) => get<{ datasets: DatasetHead[] }>("/datasets", s), [], 10_000);
  const [creating, setCreating] = useState(false);
  const lead = me.value?.user.role !== "annotator";
  return (
    <Shell title={t("nav.datasets")}>
      <div class="head"><h1>{t("nav.datasets")}</h1><span class="grow" />{lead && <Button onClick={() => setCreating(true)}>{t("home.new")}</Button>}</div>
      {error && <Failure message={error} again={again} />}
      {!value ? !error && <Later><p class="quiet">{t("loading")}</p></Later> : value.datasets.length === 0
        ? <section class="card blank"><h2>{t(lead ? "home.none" : "home.noneForYou")}</h2><p class="quiet">{t(lead ? "home.noneText" : "home.noneForYouText")}</p>{lead && <Button tone="primary" onClick={() => setCreating(true)}>{t("home.new")}</Button>}</section>
        : <ul class="stack">{value.datasets.map((d, i, all) => <Row key={d.id} d={d} first={i === all.findIndex((x) => x.mine.available > 0)} />)}</ul>}
      {creating && <CreateDialog onClose={() => setCreating(false)} />}
    </Shell>
  );
}
