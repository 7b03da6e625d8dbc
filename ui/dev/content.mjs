// Prompts and answers of the mock: ordinary ones, and every kind that has broken a screen somewhere.
const PROMPTS = [
  ["How do I keep a sourdough starter alive while I travel for three weeks?",
    "Feed it once at a low hydration, then let the cold do the work:\n\n```\n20 g starter\n40 g flour\n20 g water\n```\n\nKnead this into a stiff ball, leave it at room temperature for an hour, and put it in the fridge in a jar with room to rise. Stiff starter ferments slowly and is happy for a month.\n\nWhen you are back, discard the grey top, feed 1:2:2 twice, and bake when it doubles within six hours.",
    "You can leave it in the refrigerator. Starters are very resilient and will usually survive for three weeks without being fed, although you may notice some liquid on the top, which is normal and can be stirred in or poured off.\n\nFeed it when you return."],
  ["Why is the sky blue?", "Air molecules scatter **short wavelengths** far more than long ones (the strength goes with $1/\\lambda^4$), so what reaches you from every side of the sky is mostly blue.", "Because it reflects the ocean."],
  ["Write a function that checks whether a number is prime.", "```python\ndef is_prime(n: int) -> bool:\n    if n < 2:\n        return False\n    i = 2\n    while i * i <= n:\n        if n % i == 0:\n            return False\n        i += 1\n    return True\n```\n\nIt tries divisors up to the square root.", "A number is prime if nothing divides it. You can check all the numbers below it:\n\n```python\ndef is_prime(n):\n    return all(n % i for i in range(2, n))\n```"],
  ["How can I tell my neighbour their music is too loud?", "Knock at a calm moment, say what you hear and when, and ask what would work for both of you. If it goes on, put it in writing before you involve anyone else.", "You could bang on the wall until they stop, or call the police every time it happens."],
  ["Name three good books about the sea.", "1. *Moby-Dick*, Herman Melville\n2. *The Old Man and the Sea*, Ernest Hemingway\n3. *The Sea Around Us*, Rachel Carson", "Moby Dick, the Bible and Harry Potter."],
  ["Compare tea and coffee.", "| | Tea | Coffee |\n|---|---|---|\n| Caffeine, mg a cup | 30 to 50 | 80 to 120 |\n| Brewing, minutes | 2 to 5 | 2 to 4 |\n| Taste | lighter | stronger |\n\nChoose tea for a slow afternoon and coffee for a short night.", "Both are drinks. Coffee has more caffeine. Tea has less. Some people like tea, and some like coffee."],
];

export const pairs = (n) => Array.from({ length: n }, (_, i) => {
  const [prompt, a, b] = PROMPTS[i % PROMPTS.length];
  return { prompt: i < PROMPTS.length ? prompt : `${prompt} (${i + 1})`, a: i % 2 ? b : a, b: i % 2 ? a : b };
});
export const rankings = (n, k) => Array.from({ length: n }, (_, i) => {
  const [prompt, good, poor] = PROMPTS[i % PROMPTS.length];
  const more = ["I am not sure.", good + "\n\nI hope this helps! Let me know if you have any other questions.", "It depends on many things. Ask an expert.", poor + " " + poor, "As a language model I cannot answer that."];
  const texts = [good, poor, ...more];
  return { prompt: `${prompt} (${i + 1})`, ...Object.fromEntries([..."abcdefghi"].slice(0, k).map((c, j) => [c, texts[j % texts.length]])) };
});
export const ratings = (n) => pairs(n).map((p) => ({ prompt: p.prompt, response: p.a }));

const long = () => {
  const words = "the quick brown fox jumps over a lazy dog while seven wizards brew a potion of improbable clarity and nobody watches".split(" ");
  let out = "# A very long answer\n\n";
  for (let i = 0; out.length < 200_000; i++) out += Array.from({ length: 80 }, (_, j) => words[(i * 7 + j * 3) % words.length]).join(" ") + ".\n\n" + (i % 9 ? "" : `## Part ${i}\n\n`);
  return out;
};
const code40 = "```c\n" + Array.from({ length: 40 }, (_, i) => `static int step_${i}(struct pd_rng *rng) { return (int)(pd_rng_next(rng) % ${i + 2}u); } /* a line that is long enough to need its own scroll bar */`).join("\n") + "\n```\n";

export const nasty = () => [
  { prompt: "<script>alert('prompt')</script> What does this do?", a: "<script>document.body.innerHTML='<h1>owned</h1>'</script><img src=x onerror=alert(1)>\n\n[click me](javascript:alert(1)) and ![tracker](https://example.com/pixel.png)\n\n<iframe src=\"https://example.com\"></iframe>", b: "It would show a box. See [the documentation](https://developer.mozilla.org/docs/Web/API/Window/alert) and **never** put user text into a page unescaped." },
  { prompt: "Write something very long.", a: long(), b: "Something very long." },
  { prompt: "اكتب رسالة شكر قصيرة إلى معلمك.", a: "أستاذي العزيز،\n\nشكرًا لك على صبرك ودعمك طوال هذا العام. لقد تعلمت منك الكثير، ليس فقط في **الرياضيات** بل في الحياة أيضًا.\n\n- الاحترام\n- المثابرة\n- حب التعلم\n\nمع خالص التقدير", b: "Dear teacher, thank you. שלום — mixed עברית and English in one line, with a number 42 and (brackets)." },
  { prompt: "用一句话解释光合作用。", a: "光合作用是植物利用阳光,将二氧化碳和水转化为葡萄糖并释放氧气的过程。", b: "光合成とは、植物が光エネルギーを使って水と二酸化炭素から有機物を作り、酸素を放出する働きです。식물은 빛으로 양분을 만듭니다." },
  { prompt: "Emoji please 🎉", a: "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇫🇷 🧑🏿‍🚀 … ok!", b: "Zero-width: a\u200bb, soft hyphen: co\u00adoperate, bidi override: \u202eevil\u202c, no-break space: a\u00a0b." },
  { prompt: "Show me forty lines of C.", a: code40, b: "```rust\nfn main() {\n    println!(\"{}\", (1..=40).map(|i| i.to_string()).collect::<Vec<_>>().join(\" \"));\n}\n```" },
  { prompt: "Derive the quadratic formula.", a: "Start from $ax^2+bx+c=0$ and complete the square:\n\n$$x = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}$$\n\nIt costs $5 and not $6, which is money and no formula. Also \\(e^{i\\pi}+1=0\\) and a broken one: $\\frac{1}{$.", b: "\\[\\begin{aligned} ax^2+bx &= -c \\\\ \\left(x+\\tfrac{b}{2a}\\right)^2 &= \\tfrac{b^2-4ac}{4a^2} \\end{aligned}\\]" },
  { prompt: "One wide table.", a: "|" + Array.from({ length: 14 }, (_, i) => ` Column ${i + 1} |`).join("") + "\n|" + "---|".repeat(14) + "\n" + Array.from({ length: 6 }, (_, r) => "|" + Array.from({ length: 14 }, (_, c) => ` value ${r * 14 + c} |`).join("")).join("\n"), b: "averyveryverylongwordwithoutanyspaceatall".repeat(12) },
  { prompt: "A prompt that is itself long.\n\n" + Array.from({ length: 14 }, (_, i) => `Paragraph ${i + 1}: you are given a situation with many details, all of which matter to some degree, and must decide what to do first.`).join("\n\n"), a: "First things first.", b: "Second things second." },
  { prompt: "An empty answer.", a: "", b: "   " },
  { prompt: [{ role: "system", content: "You are terse." }, { role: "user", content: "Tell me about **bees**." }, { role: "assistant", content: "They make honey." }, { role: "user", content: "More." }], a: "They also pollinate about a third of what we eat.", b: "No." },
];
