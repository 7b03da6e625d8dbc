// Markdown of strangers to HTML that can do nothing: raw HTML is shown as text, links and images are inert, then DOMPurify is the second wall.
// Code colours and math come in chunks of their own, loaded when a text first needs them.
import DOMPurify from "dompurify";
import { Marked, type Tokens } from "marked";
import { moreStyle } from "../lib/style.ts";
import { escape } from "./escape.ts";

type Highlight = (code: string, language: string) => string | null;
type Typeset = (tex: string, display: boolean) => string;
let highlight: Highlight | null = null;
let typeset: Typeset | null = null;

const MATH = /\$\$|\\\(|\\\[|\$[^\s$][^$\n]*\$/;
const FENCE = /^ {0,3}(```|~~~)/m;
const LONG = 20_000;

/** The chunks a text needs that are not here yet; null when it can be drawn at once. */
export function missing(text: string): Promise<unknown> | null {
  const wanted: Promise<unknown>[] = [];
  if (!highlight && FENCE.test(text)) wanted.push(Promise.all([import("./code.ts"), moreStyle()]).then(([m]) => { highlight = m.highlight; }));
  if (!typeset && MATH.test(text)) wanted.push(import("./math.ts").then((m) => { typeset = m.typeset; }));
  return wanted.length ? Promise.all(wanted).then(() => cache.clear(), () => undefined) : null;
}

interface MathToken extends Tokens.Generic { type: "math"; raw: string; tex: string; display: boolean }
// Opening and closing marks; a lone dollar must hug its formula and not be followed by a digit ("$5 and $6" is money).
const RULES: [RegExp, boolean][] = [
  [/^\$\$([^$]+?)\$\$/, true], [/^\\\[([\s\S]+?)\\\]/, true], [/^\\\(([\s\S]+?)\\\)/, false], [/^\$(?!\s)((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d)/, false],
];
let formulas: MathToken[] = [];

const parser = new Marked({ gfm: true, breaks: true, async: false });
parser.use({
  extensions: [{
    name: "math",
    level: "inline",
    start: (src: string) => { const i = src.search(/\$|\\\(|\\\[/); return i < 0 ? undefined : i; },
    tokenizer(src: string): MathToken | undefined {
      for (const [rule, display] of RULES) {
        const m = rule.exec(src);
        if (m) return { type: "math", raw: m[0], tex: m[1]!.trim(), display };
      }
      return undefined;
    },
    renderer(token) {
      formulas.push(token as MathToken);
      return `<span class="math">${formulas.length - 1}</span>`;
    },
  }],
  renderer: {
    html: ({ text }) => escape(text),
    link({ href, tokens }) {
      const inner = this.parser.parseInline(tokens);
      return inner === escape(href) || href.endsWith(inner) ? `<span class="link">${escape(href)}</span>` : `<span class="link">${inner}</span> <span class="url">${escape(href)}</span>`;
    },
    image: ({ href, text }) => `<span class="noimage">${escape(text || "image")} <span class="url">${escape(href)}</span></span>`,
    heading({ tokens, depth }) { return `<div role="heading" aria-level="3" class="h${depth}">${this.parser.parseInline(tokens)}</div>\n`; },
    code({ text, lang }) {
      const language = (lang ?? "").trim().split(/\s/)[0] ?? "";
      const inner = (text.length < 50_000 && highlight?.(text, language)) || escape(text);
      return `<pre tabindex="0"><code>${inner}\n</code></pre>\n`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    table(token) {
      const row = (cells: Tokens.TableCell[], tag: string): string =>
        "<tr>" + cells.map((c) => `<${tag}${c.align ? ` class="${c.align}"` : ""}>${this.parser.parseInline(c.tokens)}</${tag}>`).join("") + "</tr>";
      return `<div class="table" tabindex="0"><table><thead>${row(token.header, "th")}</thead><tbody>${token.rows.map((r) => row(r, "td")).join("")}</tbody></table></div>\n`;
    },
  },
});

const BLOCKS = new Set(["P", "LI", "TD", "TH", "BLOCKQUOTE", "UL", "OL", "DIV"]);
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (BLOCKS.has(node.nodeName)) node.setAttribute("dir", "auto");
  else if (node.nodeName === "PRE") node.setAttribute("dir", "ltr");
});
const ALLOWED = {
  ALLOWED_TAGS: ["p", "br", "em", "strong", "del", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "table", "thead", "tbody", "tr", "th", "td", "span", "div", "sup", "sub"],
  ALLOWED_ATTR: ["class", "role", "aria-level", "tabindex", "start"],
};

const cache = new Map<string, string>();
function remembered(key: string, make: () => string): string {
  const had = cache.get(key);
  if (had !== undefined) return had;
  const html = make();
  if (cache.size > 60) cache.delete(cache.keys().next().value!);
  cache.set(key, html);
  return html;
}

/** Safe HTML of a Markdown text. */
export function markdown(text: string): string {
  return remembered("m" + text, () => {
    formulas = [];
    const clean = DOMPurify.sanitize(parser.parse(text) as string, ALLOWED);
    const made = formulas;
    return clean.replace(/<span class="math">(\d+)<\/span>/g, (_, i: string) => {
      const f = made[Number(i)];
      if (!f) return "";
      return typeset ? typeset(f.tex, f.display) : `<span class="math">${escape(f.raw)}</span>`;
    });
  });
}

/** Plain text as paragraphs that keep their line breaks. */
export function plain(text: string): string {
  return remembered("p" + text, () => text.split(/\n{2,}/).map((p) => `<p class="keep" dir="auto">${escape(p)}</p>`).join(""));
}

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
/** The text as it is stored, with what hides in it (zero-width, bidi and control characters) made visible. */
export function raw(text: string): string {
  return remembered("r" + text, () => `<p class="keep raw" dir="auto">${escape(text).replace(CONTROL, (c) =>
    `<span class="control">U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}</span>`)}</p>`);
}

export const isLong = (text: string): boolean => text.length > LONG;
