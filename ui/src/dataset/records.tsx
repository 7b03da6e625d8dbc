// The rows behind the numbers.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, messageOf } from "../lib/api.ts";
import { Shell, useLoad } from "../lib/frame.tsx";
import { ago, count, duration, t, tr, type Key } from "../lib/i18n.ts";
import { Button, Failure, Later } from "../lib/parts.tsx";
import { go, Link, query } from "../lib/router.tsx";
import type { Answer, Dataset, RecordRow, Values } from "../lib/types.ts";
import { isTiers } from "../label/work.ts";
import { textOf, Value } from "../text/reader.tsx";

const FILTERS = ["all", "waiting", "in_hand", "done", "conflicts", "flagged", "skipped"];

function answerText(a: Answer): string {
  if (a.both_bad) return t("bothBad");
  if (isTiers(a.value)) {
    const order = a.value.map((tier) => tier.join(" = ")).join(" > ");
    return a.strength ? `${order} ${"•".repeat(a.strength)}` : order;
  }
  return Array.isArray(a.value) ? a.value.join(", ") : String(a.value);
}
const valuesText = (v: Values | null): string => Object.values(v ?? {}).map(answerText).join("; ");

function Row({ row, dataset }: { row: RecordRow; dataset: Dataset }): JSX.Element {
  const [open, setOpen] = useState(false);
  const first = dataset.fields.find((f) => !dataset.answers.includes(f.name)) ?? dataset.fields[0];
  return (
    <li class="card record">
      <button type="button" class="record-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class="excerpt" dir="auto">{textOf(row.fields[first?.name ?? ""]).slice(0, 300) || t("text.empty")}</span>
        <span class="quiet num">{row.judgments.length ? valuesText(row.judgments.at(-1)!.values) || tr(`status.${row.judgments.at(-1)!.status}`, "") : t(row.done ? "status.done" : "status.waiting")}</span>
      </button>
      {open && (
        <div class="record-body">
          {dataset.fields.map((f) => <section key={f.name}><h2>{f.title}</h2><Value value={row.fields[f.name]} rich={f.markdown || f.type === "chat"} /></section>)}
          {row.judgments.length > 0 && (
            <div class="scroll-x" tabIndex={0} role="region" aria-label={t("records.judgments")}>
              <table>
                <thead><tr><th>{t("labelers.name")}</th><th>{t("records.answer")}</th><th>{t("records.shown")}</th><th class="right">{t("labelers.median")}</th><th>{t("records.note")}</th><th>{t("records.when")}</th></tr></thead>
                <tbody>{row.judgments.map((j) => (
                  <tr key={j.id}>
                    <td>{j.user.username}</td><td>{j.status === "submitted" ? valuesText(j.values) : tr(`status.${j.status}`, j.status)}</td><td>{j.shown.join(" ")}</td><td class="right">{j.seconds === null ? "–" : duration(j.seconds)}</td>
                    <td dir="auto">{[j.reason ? tr(`skip.${j.reason}`, j.reason) : "", j.flag ? `${tr(`flag.${j.flag.kind}`, j.flag.kind)}${j.flag.text ? `: ${j.flag.text}` : ""}` : "", j.why ?? ""].filter(Boolean).join(". ")}</td><td class="nowrap">{ago(j.at)}</td>
                  </tr>
                ))}</tbody>
              </table>
            </div>
          )}
          <div class="actions"><Link class="button" href={`/datasets/${dataset.id}/label?record=${row.id}`}>{t("records.open")}</Link></div>
        </div>
      )}
    </li>
  );
}

export default function RecordsPage({ id }: { id: string }): JSX.Element {
  const d = useLoad((s) => get<Dataset>(`/datasets/${id}`, s), [id]);
  const filter = query.value.get("filter") ?? "all";
  const user = query.value.get("user");
  const [rows, setRows] = useState<RecordRow[]>([]);
  const [next, setNext] = useState<string | null | undefined>(undefined);
  const [error, setError] = useState<string | null>(null);
  const load = async (after: string | null, before: RecordRow[], signal?: AbortSignal): Promise<void> => {
    const q = new URLSearchParams({ filter, limit: "50", ...(user ? { user } : {}), ...(after ? { after } : {}) });
    try {
      const r = await get<{ records: RecordRow[]; next: string | null }>(`/datasets/${id}/records?${q}`, signal);
      setRows([...before, ...r.records]);
      setNext(r.next);
      setError(null);
    } catch (e) {
      if (!signal?.aborted) setError(messageOf(e));
    }
  };
  useEffect(() => {
    const stop = new AbortController();
    setNext(undefined);
    void load(null, [], stop.signal);
    return () => stop.abort();
  }, [id, filter, user]);
  return (
    <Shell title={t("records")}>
      <div class="head">
        <div class="titles"><h1>{d.value ? <Link href={`/datasets/${id}`}>{d.value.name}</Link> : "\u00a0"}</h1><small>{t("records")}</small></div>
        <label class="inline"><span>{t("records.filter")}</span>
          <select value={filter} onChange={(e) => go(`/datasets/${id}/records?filter=${e.currentTarget.value}${user ? `&user=${user}` : ""}`, true)}>{FILTERS.map((f) => <option key={f} value={f} selected={f === filter}>{t(`filter.${f}` as Key)}</option>)}</select>
        </label>
        {user && <Button tone="quiet" onClick={() => go(`/datasets/${id}/records?filter=${filter}`, true)}>{t("records.allPeople")}</Button>}
      </div>
      {error && <Failure message={error} again={() => void load(null, [])} />}
      {next === undefined ? !error && <Later><p class="quiet">{t("loading")}</p></Later> : rows.length === 0 ? <section class="card blank"><h2>{t("records.none")}</h2><p class="quiet">{t("records.noneText")}</p></section>
        : d.value && <ul class="stack tight">{rows.map((r) => <Row key={r.id} row={r} dataset={d.value!} />)}</ul>}
      {next && <div class="actions middle"><small class="num">{t("records.shownCount", { n: count(rows.length) })}</small><Button onClick={() => void load(next, rows)}>{t("records.more")}</Button></div>}
    </Shell>
  );
}
