// The catalogue and the code agree: every key that is asked for exists, none is idle, every plural has "other".
import assert from "node:assert";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const src = join(dirname(fileURLToPath(import.meta.url)), "../src");
const parts = readdirSync(join(src, "strings/en")).map((f) => JSON.parse(readFileSync(join(src, "strings/en", f), "utf8")));
const strings = Object.assign({}, ...parts);
const files = readdirSync(src, { recursive: true }).filter((f) => /\.tsx?$/.test(f));
const code = files.map((f) => readFileSync(join(src, f), "utf8")).join("\n");
// Keys put together at run time, by their fixed beginning.
const made = [...code.matchAll(/\b(?:t|tr)\(`([\w.]+)\$\{/g)].map((m) => m[1]);

test("no key stands in two parts", () => {
  assert.equal(Object.keys(strings).length, parts.reduce((n, p) => n + Object.keys(p).length, 0));
});
test("every key in the code is in the catalogue", () => {
  const asked = [...code.matchAll(/\b(?:t|tr)\((?:[\w.!]+(?: === [^?]+)? \? )?"([\w./]+)"/g)].map((m) => m[1]);
  assert.deepEqual(asked.filter((k) => !(k in strings)), []);
  assert.deepEqual(made.filter((p) => !Object.keys(strings).some((k) => k.startsWith(p))), []);
});
test("every key in the catalogue is in the code", () => {
  const idle = Object.keys(strings).filter((k) => !code.includes(`"${k}"`) && !made.some((p) => k.startsWith(p)));
  assert.deepEqual(idle, []);
});
test("every plural has a form for all the rest", () => {
  for (const [k, v] of Object.entries(strings)) if (typeof v !== "string") assert.ok(v.other, k);
});
