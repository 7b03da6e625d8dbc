// All runs, newest first.
import "../main.tsx"; // keeps what is shared in one chunk with the labeling screen: it packs smaller than many
import type { JSX } from "preact";
import { get } from "../lib/api.ts";
import { Shell, useLoad } from "../lib/frame.tsx";
import { ago, duration, t } from "../lib/i18n.ts";
import { Failure, Later } from "../lib/parts.tsx";
import { Link } from "../lib/router.tsx";
import type { RunHead } from "../lib/types.ts";
import { StateBadge } from "./state.tsx";
import { headlineText, isLive } from "./words.ts";

function took(r: RunHead): string {
  if (!r.started_at) return "–";
  return duration(((r.ended_at ? Date.parse(r.ended_at) : Date.now()) - Date.parse(r.started_at)) / 1000);
}

export default function Runs(): JSX.Element {
  const { value, error, again } = useLoad((s) => get<{ runs: RunHead[] }>("/runs", s), [], 5000);
  return (
    <Shell title={t("nav.runs")}>
      <div class="head"><h1>{t("nav.runs")}</h1></div>
      {error && <Failure message={error} again={again} />}
      {!value ? !error && <Later><p class="quiet">{t("loading")}</p></Later> : value.runs.length === 0
        ? <section class="card blank"><h2>{t("runs.none")}</h2><p class="quiet">{t("runs.noneText")}</p></section>
        : (
          <section class="card">
            <div class="scroll-x" tabIndex={0} role="region" aria-label={t("nav.runs")}>
              <table class="runs">
                <thead><tr><th>{t("runs.name")}</th><th>{t("runs.state")}</th><th class="right">{t("runs.step")}</th><th>{t("runs.result")}</th><th>{t("runs.model")}</th><th>{t("runs.dataset")}</th><th class="right">{t("runs.took")}</th><th>{t("runs.started")}</th></tr></thead>
                <tbody>
                  {value.runs.map((r) => (
                    <tr key={r.id}>
                      <td><Link href={`/runs/${r.id}`}>{r.name}</Link></td><td><StateBadge state={r.state} /></td>
                      <td class="right nowrap">{r.total_steps && isLive(r.state) ? t("run.stepOfShort", { step: r.step, total: r.total_steps }) : r.step}</td>
                      <td>{headlineText(r) || "–"}</td><td>{r.model}</td><td>{r.dataset ? <Link href={`/datasets/${r.dataset.id}`}>{r.dataset.name}</Link> : "–"}</td>
                      <td class="right nowrap">{took(r)}</td><td class="nowrap">{ago(r.created_at)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </section>
        )}
    </Shell>
  );
}
