// The run page: state line, alarms, curves that grow, samples, the verdict.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import { useComputed } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { messageOf, post } from "../lib/api.ts";
import { Menu, Shell } from "../lib/frame.tsx";
import { ago, bytes, count, duration, t, tr } from "../lib/i18n.ts";
import { Icon } from "../lib/icons.tsx";
import { useCommands } from "../lib/keys.ts";
import { Button, Dialog, Failure, Later } from "../lib/parts.tsx";
import { Link } from "../lib/router.tsx";
import { complain } from "../lib/say.tsx";
import type { MetricRow, Run } from "../lib/types.ts";
import { SendDialog } from "../dataset/jobs.tsx";
import { Chart, Waiting } from "./chart.tsx";
import { Items, Reliability, Verdict } from "./eval.tsx";
import { expected, groupsOf, keysOf } from "./groups.ts";
import { LiveRun } from "./live.ts";
import { Samples } from "./samples.tsx";
import { StateBadge } from "./state.tsx";
import { isLive } from "./words.ts";

function stateLine(r: Run): string[] {
  if (r.state === "queued") return [r.job?.ahead ? t("run.ahead", { n: r.job.ahead }) : t("run.soon")];
  return [
    r.total_steps ? t("run.stepOf", { step: r.step, total: r.total_steps }) : t("run.step", { step: r.step }),
    isLive(r.state) && r.eta_seconds !== null ? t("run.left", { time: duration(r.eta_seconds) }) : "",
    isLive(r.state) && r.tokens_per_second !== null ? t("run.rate", { n: count(Math.round(r.tokens_per_second)) }) : "",
    r.peak_rss_bytes !== null ? bytes(r.peak_rss_bytes) : "",
    !isLive(r.state) && r.started_at && r.ended_at ? t("run.took", { time: duration((Date.parse(r.ended_at) - Date.parse(r.started_at)) / 1000) }) : "",
  ].filter(Boolean);
}

const alarmText = (a: Run["alarms"][number]): string => { const name = tr(`alarm.${a.kind}`, ""); return name ? `${name}: ${a.text}` : a.text; };

/** One line that is always there: the reason and the evidence, or that all is well. */
function AlarmLine({ run, away, onAll }: { run: Run; away: boolean; onAll: () => void }): JSX.Element {
  const last = run.alarms.at(-1);
  const more = run.alarms.length - (last && last.text !== run.error ? 1 : 0);
  const text = run.error ?? (away && isLive(run.state) ? t("run.away") : last ? `${alarmText(last)} ${t("run.atStep", { step: last.step })}` : t("alarms.none"));
  const tone = run.error ? "danger" : last || away ? "caution" : "";
  return (
    <div class={`alarm-line ${tone}`} role="status">
      <Icon name={tone ? "warn" : "check"} /><span title={text}>{text}</span>
      {more > 0 && <Button class="small" onClick={onAll}>{t("alarms.more", { n: more })}</Button>}
    </div>
  );
}

function csv(rows: MetricRow[], name: string): void {
  const keys = ["step", ...keysOf(rows)];
  const text = [keys.join(","), ...rows.map((r) => keys.map((k) => r[k] ?? "").join(","))].join("\n");
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([text + "\n"], { type: "text/csv" }));
  a.download = `${name}.csv`;
  a.click();
  URL.revokeObjectURL(a.href);
}

function Details({ run }: { run: Run }): JSX.Element {
  const facts: [string, JSX.Element | string | null][] = [
    [t("run.verb"), run.verb], [t("runs.model"), run.model],
    [t("runs.dataset"), run.dataset && <Link href={`/datasets/${run.dataset.id}`}>{run.dataset.name}</Link>],
    [t("run.snapshot"), run.snapshot && <code>{run.snapshot.hash.slice(0, 12)}</code>],
    [t("job.reward"), run.reward && <Link href={`/runs/${run.reward.id}`}>{run.reward.name}</Link>],
    [t("runs.started"), run.started_at ? ago(run.started_at) : null], [t("run.host"), run.host], [t("run.seed"), run.seed === null ? null : String(run.seed)], [t("run.version"), run.version],
  ];
  return (
    <details class="card">
      <summary>{t("run.details")}</summary>
      <dl class="details">
        {facts.filter(([, v]) => v).map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}
        {Object.entries(run.config ?? {}).map(([k, v]) => <div key={k}><dt><code>{k}</code></dt><dd><code>{typeof v === "string" ? v : JSON.stringify(v)}</code></dd></div>)}
      </dl>
    </details>
  );
}

function Curves({ live, run }: { live: LiveRun; run: Run }): JSX.Element {
  const rows = live.rows.value;
  const [smoothing, setSmoothing] = useState(0.6);
  const [log, setLog] = useState(false);
  const [all, setAll] = useState(false);
  const [filter, setFilter] = useState("");
  useCommands("run", { log: () => setLog(!log) });
  const keys = keysOf(rows).join("\n");
  const { first, rest } = useMemo(() => groupsOf(run.kind, keys ? keys.split("\n") : []), [run.kind, keys]);
  const calibration = live.verdict.value?.kind === "reward" ? live.verdict.value.calibration : null;
  let rule: RegExp | null = null;
  try { rule = filter ? new RegExp(filter, "i") : null; } catch { rule = null; }
  const every = all ? [...first, ...rest] : first;
  const shown = rule ? [...first, ...rest].filter((g) => g.keys.some((k) => rule.test(k))) : every;
  return (
    <section class="curves" aria-label={t("curves")}>
      <div class="head tools">
        <label class="inline"><span>{t("curves.smoothing")}</span><input type="range" min={0} max={0.98} step={0.02} value={smoothing} aria-valuetext={smoothing.toFixed(2)} onInput={(e) => setSmoothing(Number(e.currentTarget.value))} /><small class="num">{smoothing.toFixed(2)}</small></label>
        <Button class={`small${log ? " set" : ""}`} command="log" aria-pressed={log} onClick={() => setLog(!log)}>{t("curves.log")}</Button>
        <Button class={`small all${all ? " set" : ""}`} aria-pressed={all} onClick={() => setAll(!all)}>{t("curves.all", { n: first.length + rest.length })}</Button>
        <input class="filter" type="search" placeholder={t("curves.filter")} aria-label={t("curves.filter")} value={filter} onInput={(e) => setFilter(e.currentTarget.value)} />
        <span class="grow" />
        <Button class="small" disabled={!rows.length} onClick={() => csv(rows, run.id)}><Icon name="download" />{t("curves.csv")}</Button>
      </div>
      {rows.length === 0 ? (isLive(run.state) ? <div class="charts" aria-busy="true">{expected(run.kind).map((k) => <Waiting key={k} name={k} />)}</div> : <div class="card blank tall"><p class="quiet">{t("curves.none")}</p></div>)
        : <div class="charts">{shown.map((g, i) => <Chart key={g.title} group={g} rows={rows} smoothing={smoothing} log={log} from={i % 8} />)}{calibration && calibration.length > 1 && !rule && <Reliability points={calibration} />}</div>}
    </section>
  );
}

export default function RunPage({ id }: { id: string }): JSX.Element {
  const live = useMemo(() => new LiveRun(id), [id]);
  const [sending, setSending] = useState(false);
  const [busy, setBusy] = useState(false);
  const [alarms, setAlarms] = useState(false);
  useEffect(() => { void live.open(); return () => live.close(); }, [live]);
  const title = useComputed(() => live.run.value?.name ?? t("nav.runs"));
  const run = live.run.value;
  const act = async (what: "stop" | "resume"): Promise<void> => {
    setBusy(true);
    try { await post(`/jobs/${run!.job?.id ?? id}/${what}`, {}); await live.again(); } catch (e) { complain(messageOf(e)); }
    setBusy(false);
  };
  return (
    <Shell title={title.value} wide>
      {live.error.value && <Failure message={live.error.value} again={() => void live.open()} />}
      {!run ? !live.error.value && <Later><p class="quiet">{t("loading")}</p></Later> : (
        <>
          <div class="head">
            <div class="titles"><h1>{run.name}</h1><StateBadge state={run.state} /><small class="num">{stateLine(run).join(", ")}</small></div>
            <Menu label={t("more")}>
              {(close) => (
                <>
                  {run.has.report && <a role="menuitem" href={`/ui/runs/${id}/report`} download onClick={close}>{t("run.report")}</a>}
                  <button type="button" role="menuitem" onClick={() => { close(); csv(live.rows.value, id); }}>{t("curves.csv")}</button>
                  {run.dataset && <a role="menuitem" href={`/datasets/${run.dataset.id}`}>{t("label.toDataset")}</a>}
                </>
              )}
            </Menu>
            {run.can.resume ? <Button class="stop-slot" tone={run.can.send ? "plain" : "primary"} disabled={busy} onClick={() => void act("resume")}><Icon name="play" />{t("run.resume")}</Button>
              : <Button class="stop-slot" disabled={busy || !run.can.stop} onClick={() => void act("stop")}><Icon name="stop" />{t("run.stop")}</Button>}
            {run.kind === "improve" && <Button tone="primary" disabled={!run.can.send} onClick={() => setSending(true)}>{t("next.send")}</Button>}
          </div>
          <AlarmLine run={run} away={live.away.value} onAll={() => setAlarms(true)} />
          {run.kind !== "other" && <Verdict kind={run.kind} e={live.verdict.value} over={!isLive(run.state)} />}
          <Curves live={live} run={run} />
          <Details run={run} />
          {(run.kind === "improve" || run.has.samples) && <Samples id={id} newest={live.sampled.value} />}
          {live.verdict.value && <Items e={live.verdict.value} />}
          {alarms && (
            <Dialog title={t("alarms")} onClose={() => setAlarms(false)} wide>
              <ul class="alarms">{[...run.alarms].reverse().map((a, i) => <li key={i}><small class="num">{t("run.step", { step: a.step })}</small><span>{alarmText(a)}</span></li>)}</ul>
            </Dialog>
          )}
          {sending && <SendDialog run={id} from={run.dataset?.name ?? run.name} onClose={() => setSending(false)} />}
        </>
      )}
    </Shell>
  );
}
