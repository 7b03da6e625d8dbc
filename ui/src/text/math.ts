// TeX to MathML, which the browser sets with its own fonts: no web fonts and no style sheet.
import katex from "katex";

export function typeset(tex: string, display: boolean): string {
  const html = katex.renderToString(tex, { output: "mathml", displayMode: display, throwOnError: false, strict: "ignore", trust: false, maxExpand: 200, maxSize: 20 });
  return html.replace(/ style="[^"]*"/g, ""); // the page's policy allows none
}
