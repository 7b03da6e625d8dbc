// Builds ui/dist: index.html, favicon.svg and assets/NAME-HASH.{js,css} with a .gz beside each.
// Fails when what the labeling page loads is above its budget. `--watch` rebuilds on change.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, watch, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");
const assets = join(dist, "assets");
const LABEL_BUDGET = 60 * 1024; // gzip bytes of script and style that the labeling page needs before its first task
const watching = process.argv.includes("--watch");

const common = {
  absWorkingDir: root,
  outdir: assets,
  bundle: true,
  minify: !watching,
  metafile: true,
  target: ["es2022"],
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  legalComments: "none",
  logLevel: "warning",
};

/** Output files that a chunk pulls in statically, itself included. */
function closure(outputs, file, seen = new Set()) {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const i of outputs[file].imports) if (i.kind === "import-statement" && !i.external) closure(outputs, i.path, seen);
  return seen;
}

const outputOf = (outputs, entry) => Object.keys(outputs).find((f) => outputs[f].entryPoint === entry);
const gz = (bytes) => gzipSync(bytes, { level: 9 });
const kb = (n) => (n / 1024).toFixed(1) + " kB";

function notices(inputs) {
  const packages = new Set();
  for (const f of inputs) {
    const m = f.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/);
    if (m) packages.add(m[1]);
  }
  return [...packages].sort().map((name) => {
    const dir = join(root, "node_modules", name);
    const about = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
    const licence = readdirSync(dir).find((f) => /^licen[cs]e/i.test(f));
    return `${name} ${about.version} (${about.license})\n\n${licence ? readFileSync(join(dir, licence), "utf8").trim() : ""}\n`;
  }).join("\n" + "-".repeat(80) + "\n\n");
}

async function once() {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(assets, { recursive: true });
  const app = await build({
    ...common, entryPoints: ["src/main.tsx"], splitting: true, format: "esm", jsx: "automatic", jsxImportSource: "preact",
  });
  const theme = await build({ ...common, entryPoints: ["src/early.ts"], format: "iife" });
  const style = await build({ ...common, entryPoints: ["src/style/podium.css", "src/style/more.css"] });
  const outputs = { ...app.metafile.outputs, ...theme.metafile.outputs, ...style.metafile.outputs };

  const main = outputOf(outputs, "src/main.tsx");
  const early = outputOf(outputs, "src/early.ts");
  const css = outputOf(outputs, "src/style/podium.css");
  const more = outputOf(outputs, "src/style/more.css");
  const html = readFileSync(join(root, "src/index.html"), "utf8")
    .replace("%EARLY%", "/assets/" + basename(early)).replace("%MAIN%", "/assets/" + basename(main)).replace("%STYLE%", "/assets/" + basename(css)).replace("%MORE%", "/assets/" + basename(more));
  writeFileSync(join(dist, "index.html"), html);
  writeFileSync(join(dist, "favicon.svg"), readFileSync(join(root, "src/favicon.svg")));
  writeFileSync(join(dist, "THIRD_PARTY.txt"), notices([...Object.keys(app.metafile.inputs), ...Object.keys(style.metafile.inputs)]));

  const sizes = {};
  for (const f of readdirSync(assets)) {
    const bytes = readFileSync(join(assets, f));
    const packed = gz(bytes);
    writeFileSync(join(assets, f + ".gz"), packed);
    sizes[f] = packed.length;
  }
  for (const f of ["index.html", "favicon.svg"]) writeFileSync(join(dist, f + ".gz"), gz(readFileSync(join(dist, f))));

  const need = new Set([...closure(outputs, main), early, css].map((f) => basename(f)));
  const total = [...need].reduce((n, f) => n + sizes[f], 0);
  const all = Object.values(sizes).reduce((n, s) => n + s, 0);
  const id = createHash("sha256").update(html).digest("hex").slice(0, 12);
  console.log(`ui ${id}: labeling page ${kb(total)} gzip of ${kb(LABEL_BUDGET)}, everything ${kb(all)}, ${statSync(join(dist, "index.html")).size} bytes of HTML`);
  if (total > LABEL_BUDGET) {
    for (const f of need) console.error(`  ${f} ${kb(sizes[f])}`);
    throw new Error(`the labeling page needs ${kb(total)} gzip, above its budget of ${kb(LABEL_BUDGET)}`);
  }
}

await once().catch((e) => { console.error(String(e.message ?? e)); if (!watching) process.exit(1); });
if (watching) {
  let timer;
  watch(join(root, "src"), { recursive: true }, () => {
    clearTimeout(timer);
    timer = setTimeout(() => once().catch((e) => console.error(String(e.message ?? e))), 80);
  });
}
