// A piece of user text on the page: Markdown, plain, raw, a difference, or a chat.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { t, tr } from "../lib/i18n.ts";
import type { Message } from "../lib/types.ts";
import { isLong, markdown, missing, plain, raw } from "./markdown.ts";

export type Mode = "rich" | "raw";

export const isChat = (v: unknown): v is Message[] =>
  Array.isArray(v) && v.every((m) => m !== null && typeof m === "object" && typeof (m as Message).content === "string");

/** The text of any field value, for counting, comparing and searching. */
export function textOf(v: unknown): string {
  if (typeof v === "string") return v;
  if (v === null || v === undefined) return "";
  if (isChat(v)) return v.map((m) => `${m.role}: ${m.content}`).join("\n\n");
  return JSON.stringify(v, null, 2);
}

/** Loads what the texts need, but makes nobody wait longer than `ms`. */
export async function prepare(values: unknown[], ms = 300): Promise<void> {
  const wanted = values.map((v) => missing(textOf(v))).filter((p) => p !== null);
  if (wanted.length) await Promise.race([Promise.all(wanted), new Promise((r) => setTimeout(r, ms))]);
}

export function Reader({ text, rich, mode = "rich", html }: { text: string; rich: boolean; mode?: Mode; html?: string | null }): JSX.Element {
  const [, again] = useState(0);
  useEffect(() => {
    let alive = true;
    if (rich) void missing(text)?.then(() => { if (alive) again((n) => n + 1); });
    return () => { alive = false; };
  }, [text, rich]);
  if (text.trim() === "" && mode === "rich") return <div class="reader"><p class="quiet">{t("text.empty")}</p></div>;
  const inner = html ?? (mode === "raw" ? raw(text) : rich ? markdown(text) : plain(text));
  return <div class={`reader${isLong(text) ? " long" : ""}`} dangerouslySetInnerHTML={{ __html: inner }} />;
}

export function Value({ value, rich, mode = "rich", html }: { value: unknown; rich: boolean; mode?: Mode; html?: string | null }): JSX.Element {
  if (!isChat(value)) return <Reader text={textOf(value)} rich={rich} mode={mode} html={html ?? null} />;
  return (
    <ol class="chat">
      {value.map((m, i) => (
        <li key={i} class={`turn ${m.role === "user" ? "user" : "other"}`}>
          <span class="role">{tr(`role.${m.role}`, m.role)}</span>
          <Reader text={m.content} rich={rich} mode={mode} />
        </li>
      ))}
    </ol>
  );
}
