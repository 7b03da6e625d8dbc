// The pure parts: answers in progress, chart groups, the word difference.
import assert from "node:assert";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const src = join(dirname(fileURLToPath(import.meta.url)), "../src");
const out = mkdtempSync(join(tmpdir(), "podium-ui-"));
async function load(file) {
  const to = join(out, file.replace(/\W/g, "_") + ".mjs");
  await build({ entryPoints: [join(src, file)], outfile: to, bundle: true, format: "esm", logLevel: "silent" });
  return import(pathToFileURL(to));
}
const w = await load("label/work.ts");
const g = await load("runs/groups.ts");
const r = await load("lib/remap.ts");
const c = await load("lib/commands.ts");
const { compare } = await load("text/diff.ts");

test("the seven steps and back, in either order shown", () => {
  for (const order of [["a", "b"], ["b", "a"]])
    for (let s = 1; s <= 7; s++) assert.equal(w.stepOf(order, w.pairAt(order, s, true)), s);
  assert.deepEqual(w.pairAt(["b", "a"], 1, true), { value: [["b"], ["a"]], strength: 3 });
  assert.equal(w.stepOf(["a", "b"], w.bothBad(["a", "b"], true)), null);
  assert.equal(w.moved(null, -1), 3);
  assert.equal(w.moved(7, 1), 7);
});
test("ranks as people count them", () => {
  const t = [["c"], ["a", "b"], ["d"]];
  assert.deepEqual(["c", "a", "b", "d", "e"].map((x) => w.rankOf(t, x)), [1, 2, 2, 4, null]);
});
test("placing, tying, taking back", () => {
  let t = w.place([], "c", true);
  t = w.place(t, "a", false);
  t = w.place(t, "b", true);
  assert.deepEqual(t, [["c"], ["a", "b"]]);
  assert.equal(w.place(t, "a", false), t);
  assert.deepEqual(w.removeLast(t), [["c"], ["a"]]);
  assert.deepEqual(w.remove(t, "c"), [["a", "b"]]);
});
test("moving up leaves a tie first, then passes its neighbour", () => {
  const t = [["c"], ["a", "b"]];
  assert.deepEqual(w.shift(t, "b", -1), [["c"], ["b"], ["a"]]);
  assert.deepEqual(w.shift(t, "b", 1), [["c"], ["a"], ["b"]]);
  assert.deepEqual(w.shift([["c"], ["a"], ["b"]], "b", -1), [["c"], ["b"], ["a"]]);
  assert.deepEqual(w.shift([["c"], ["a"]], "c", -1), [["c"], ["a"]]);
  assert.deepEqual(w.toEnd(t, "b", "top"), [["b"], ["c"], ["a"]]);
});
test("moving never loses or doubles an answer", () => {
  let t = [["a"], ["b", "c"], ["d"]];
  for (let i = 0; i < 200; i++) {
    const id = "abcd"[(i * 7) % 4];
    t = i % 5 === 4 ? w.toEnd(t, id, i % 2 ? "top" : "bottom") : w.shift(t, id, i % 3 ? 1 : -1);
    assert.deepEqual(t.flat().sort(), ["a", "b", "c", "d"]);
    assert.ok(t.every((x) => x.length));
  }
});
test("an answer let go over a place", () => {
  const tiers = [["a"], ["b", "c"], ["d"]];
  assert.deepEqual(w.dropAt(tiers, "e", { before: 0 }), [["e"], ["a"], ["b", "c"], ["d"]]);
  assert.deepEqual(w.dropAt(tiers, "e", { before: 3 }), [["a"], ["b", "c"], ["d"], ["e"]]);
  assert.deepEqual(w.dropAt(tiers, "e", { into: 2 }), [["a"], ["b", "c"], ["d", "e"]]);
  assert.deepEqual(w.dropAt(tiers, "a", { before: 3 }), [["b", "c"], ["d"], ["a"]], "to the right its own place does not count");
  assert.deepEqual(w.dropAt(tiers, "d", { before: 1 }), [["a"], ["d"], ["b", "c"]]);
  assert.deepEqual(w.dropAt(tiers, "b", { before: 1 }), [["a"], ["b"], ["c"], ["d"]], "out of a tie, before it");
  assert.deepEqual(w.dropAt(tiers, "b", { before: 2 }), [["a"], ["c"], ["b"], ["d"]]);
  assert.deepEqual(w.dropAt(tiers, "a", { into: 2 }), [["b", "c"], ["d", "a"]]);
  assert.deepEqual(w.dropAt(tiers, "c", "out"), [["a"], ["b"], ["d"]]);
  assert.equal(w.dropAt(tiers, "c", { into: 1 }), tiers, "where it is already");
  assert.deepEqual(tiers, [["a"], ["b", "c"], ["d"]], "nothing is changed in place");
});
test("keys that people choose clash only where both are heard", () => {
  assert.equal(r.takenBy("skip", "f", {}), "flag");
  assert.equal(r.takenBy("skip", "q", {}), null);
  assert.equal(r.takenBy("skip", "q", { flag: "q" }), "flag");
  assert.equal(r.takenBy("skip", "f", { flag: "q" }), null, "a key given away is free");
  assert.equal(r.takenBy("same", "=", {}), null, "pairs and rankings are never asked at once");
  assert.equal(r.takenBy("log", "s", {}), null, "skip is not heard on the run page");
  assert.equal(r.takenBy("skip", "5", {}), "digit5");
  assert.equal(r.takenBy("undo", "Mod+y", {}), "redo", "other keys of a command count too");
  assert.equal(r.takenBy("theme", "j", {}), "nextAnswer", "what is heard everywhere clashes everywhere");
  assert.deepEqual(r.withKey(r.withKey({}, "skip", "q"), "skip", "s"), {}, "the standard key is no choice");
  for (const key of ["Escape", "Tab", "F5", "Mod+w", "Mod+1", "Alt+Left"]) assert.ok(r.isReserved(key), key);
  for (const key of ["q", "Mod+Enter", "Alt+Up", "Space"]) assert.ok(!r.isReserved(key), key);
  assert.ok(!r.canChange("leave") && !r.canChange("close") && !r.canChange("choose1") && r.canChange("digit1"));
  for (const [id, key] of Object.entries(r.LEFT_HAND)) assert.equal(r.takenBy(id, key, r.LEFT_HAND), null, `${id} ${key}`);
  for (const id of Object.keys(c.COMMANDS)) for (const key of c.COMMANDS[id].keys) if (r.canChange(id)) assert.equal(r.takenBy(id, key, {}), null, `${id} ${key}`);
});
test("what is lacking", () => {
  const pair = { name: "p", type: "pairwise", required: true, settings: {} };
  const rank = { name: "r", type: "ranking", required: true, settings: { options: [{ value: "a" }, { value: "b" }, { value: "c" }] } };
  const text = { name: "t", type: "text", required: false, settings: {} };
  const work = (values) => ({ values, why: "", flag: null });
  assert.equal(w.lacking([pair, text], work({})).name, "p");
  assert.equal(w.lacking([text], work({})).name, "t", "an empty answer to optional questions is no answer");
  assert.equal(w.lacking([rank], work({ r: { value: [["a"], ["b"]] } })).name, "r");
  assert.equal(w.lacking([rank], work({ r: { value: [["a"], ["b", "c"]] } })), null);
  assert.deepEqual(w.complete([rank, pair], work({ r: { value: [["a"]] }, p: { value: [["a"], ["b"]] } })), { p: { value: [["a"], ["b"]] } });
});
test("options find their cards by name or title, and keep the order shown", () => {
  const fields = [{ name: "response-1", title: "Response 1" }, { name: "response-2", title: "Response 2" }];
  const options = [{ value: "response_1", text: "One" }, { value: "x", text: "Response 2" }, { value: "z", text: "None" }];
  assert.deepEqual(w.rankIds({ fields }, options, ["response-2", "response-1"]).map((r) => [r.id, r.field]), [["x", "response-2"], ["response_1", "response-1"], ["z", null]]);
});
test("curves that belong together share a chart", () => {
  const { first, rest } = g.groupsOf("train_reward", ["loss", "eval_loss", "min_reward", "mean_reward", "max_reward", "eval_odd", "odd_one"]);
  assert.deepEqual(first.map((x) => x.keys), [["loss", "eval_loss"], ["min_reward", "mean_reward", "max_reward"]]);
  assert.deepEqual(rest.map((x) => x.title), ["eval_odd", "odd_one"]);
});
test("smoothing starts at the first value and keeps gaps", () => {
  assert.deepEqual(g.smooth([2, null, 2], 0.9).map((x) => x && Math.round(x * 1e6) / 1e6), [2, null, 2]);
  assert.deepEqual(g.smooth([1, 3], 0), [1, 3]);
});
test("a difference is escaped and marks both sides", () => {
  const [a, b] = compare("one <b> two", "one <i> two");
  assert.ok(a.includes("<mark>") && b.includes("<mark>") && !/<[bi]>/.test(a + b));
});
