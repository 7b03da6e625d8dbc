// The answer bar: the main question as one control, then skip, flag, why and submit. It never moves.
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { t, type Key } from "../lib/i18n.ts";
import { ariaKeys } from "../lib/keys.ts";
import { Button, Cap } from "../lib/parts.tsx";
import type { Dataset, Question } from "../lib/types.ts";
import { Reader } from "../text/reader.tsx";
import type { Desk, Item } from "./desk.ts";
import type { Layout } from "./layout.ts";
import { Control } from "./questions.tsx";
import { stepOf } from "./work.ts";

function Why({ desk, item, shown }: { desk: Desk; item: Item; shown: boolean }): JSX.Element {
  const burst = useRef(false);
  const why = item.work.value.why;
  return (
    <label class={`why${shown || why ? " shown" : ""}`}>
      <span class="spoken">{t("why.label")}</span>
      <textarea id="why" rows={1} maxLength={4000} dir="auto" placeholder={t("why.placeholder")} value={why} aria-keyshortcuts={ariaKeys("why")}
        onInput={(e) => { const text = e.currentTarget.value; desk.type((w) => ({ ...w, why: text }), burst.current); burst.current = true; }}
        onBlur={() => { burst.current = false; desk.saveNow(); }} />
      {!why && <Cap of="why" />}
    </label>
  );
}

/** What is asked, in the lead's words; on a phone, where the steps are dots, also what is chosen. */
function Ask({ question: q, item }: { question: Question; item: Item }): JSX.Element {
  const step = q.type === "pairwise" ? stepOf(item.task.order, item.work.value.values[q.name]) : null;
  return (
    <div class="ask">
      <h2 dir="auto">{q.title}</h2>
      {q.description && <div class="hint"><Reader text={q.description} rich /></div>}
      {step !== null && <span class="phone-only chosen" aria-hidden="true">{t(`pair.${step}` as Key)}</span>}
    </div>
  );
}

export function Bar({ desk, dataset, layout, item, onSkip, onFlag }: { desk: Desk; dataset: Dataset; layout: Layout; item: Item; onSkip: () => void; onFlag: () => void }): JSX.Element {
  const [whyShown, showWhy] = useState(false);
  const flag = item.work.value.flag;
  const wanting = desk.wanting.value;
  const question = wanting ? dataset.questions.find((q) => q.name === wanting) : null;
  const main = layout.main;
  return (
    <footer class="answer-bar" aria-label={t("label.bar")}>
      <div class="in">
        <p class="want" role="alert">{question ? t(question.type === "ranking" ? "want.ranking" : question.type === "pairwise" ? "want.pair" : "want.question", { title: question.title }) : ""}</p>
        {main && <Ask question={main} item={item} />}
        {main && <Control question={main} dataset={dataset} layout={layout} desk={desk} item={item} active bar />}
        <div class="row">
          <Button command="skip" onClick={onSkip}>{t("skip")}</Button>
          <Button command="flag" class={flag ? "set" : ""} aria-pressed={flag !== null} onClick={onFlag}>{t(flag ? "flagged" : "flag")}</Button>
          <button type="button" class="button plain phone-only" aria-expanded={whyShown} onClick={() => { showWhy(!whyShown); if (!whyShown) requestAnimationFrame(() => document.getElementById("why")?.focus()); }}>{t("why.button")}</button>
          <Why desk={desk} item={item} shown={whyShown} />
          <Button tone="primary" command="submit" class="submit" onClick={() => desk.submit()}>{t("submit")}</Button>
        </div>
      </div>
    </footer>
  );
}
