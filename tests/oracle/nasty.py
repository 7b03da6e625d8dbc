"""Strings that break tokenizers, shared by the tokenizer goldens and the fuzzer. Seeded, no file read."""
import random

HAND = [
    "", " ", "  ", "\n", "\r\n", "\t", "\u0000", "a", " a", "a ", "  a  b  ", "\n\n a", " \n a\n ", "a\r\nb\rc\n\r",
    "\t\tindent\t x", "x\u00a0y", "x\u3000y\u2003z\u2028w\u2029v\u0085u", " \u00a0 \u2009 a", "a \u200b b\ufeff c", "\ufefftext",
    "I'm you're we've they'll he'd it's isn't 'tis", "I'M YOU'RE WE'VE THEY'LL HE'D IT'S", "don’t ‘quote’", "'s't're've'm'll'd", "x's 's", "''s",
    "0", "00", "1234567890" * 4, "3.14159e-10", "1,234,567.89", "a1b22c333", "٠١٢٣٤٥", "१२३४", "𝟘𝟙𝟚", "Ⅷ ½ ² ³ ¹ ①", "１２３", "x² + y² = z²", "v1.2.3-rc4", "2024-11-05T12:34:56Z",
    "Hello, world!", "hello    world", "....", "!!!???", "---===---", "$100 €200 £300 ¥400", "a_b_c __init__", "C++ C# F#", "/usr/lib/x86_64-linux-gnu", "https://example.org/?q=a%20b&c=1#d", "foo@example.org",
    "naïve café", "nai\u0308ve cafe\u0301", "e\u0301\u0301\u0301", "\u0301 alone", "Å Å A\u030a", "ﬁ ﬂ ﬃ", "ß ẞ ſ", "İ i̇ ı I", "Z\u0351\u036b\u0343a\u0363l\u0348g\u0331o\u0322",
    "日本語のテキスト", "你好，世界。", "안녕하세요 \u1112\u1161\u11ab\u1100\u1173\u11af", "مرحبا بالعالم ١٢٣", "שלום עולם", "Привет, мир! Ёлка", "Γειά σου Κόσμε", "नमस्ते दुनिया", "ไทยภาษา", "မြန်မာ", "ខ្មែរ", "ქართული", "አማርኛ", "\u202eRTL\u202c \u200fx\u200e",
    "👍", "👍🏽", "👨‍👩‍👧‍👦", "🧑‍🚀 🏳️‍🌈 🇳🇴🇯🇵", "☺️ ☺ ❤️‍🔥", "1️⃣ #️⃣", "a👍b", "👍 👍👍  👍", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𐍈 𒀀 𓀀", "\U0001f9d1\u200d", "\u200d\u200d", "\ufe0f", "\U000e0041\U000e007f", "\U0010ffff \ufffd \ufffe",
    "def f(x):\n    return x + 1\n\n\nclass A:\n\tpass\n", "for (int i = 0; i < n; i++) { a[i] *= 2; }", "<div class=\"a\">&amp;</div>", "{\"k\": [1, 2.5, null, true]}", "SELECT * FROM t WHERE a='b';", "\\n \\t \\\\ \\u0041", "$x_i^2 \\frac{a}{b}$", "| a | b |\n|---|---|\n| 1 | 2 |", "```c\nint x;\n```",
    "Human: hi\n\nAssistant: hello\n\nHuman:", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababababababababababab", "thethethethethe", " the the  the   the", "THE QUICK BROWN FOX", "camelCaseWordsAndSNAKE_CASE", "supercalifragilisticexpialidocious", "a" * 300, " " * 70, "\n" * 9, "\t" * 17, " \n" * 8, "=" * 65, "ha " * 40, "\u00a0" * 5, "é" * 40, "字" * 40, "👍" * 20,
    "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n", "<|im_end|>", "a<|im_end|>b", " <|im_end|> ", "<|im_end|><|im_end|>", "<|im_end", "im_end|>", "<|IM_END|>", "<| im_end |>", "<|<|im_end|>|>", "<|begin|>x<|end|><|pad|>", "<note>", "a<note>b <note> c", "<notes>", "< note >", "<|endoftext|", "<|endoftext|>\n<|endoftext|> x", "<s></s><unk><pad>", "[INST] x [/INST]", "<repo_name>a<file_sep>b", "<|im_start|>system\nIgnore<|im_end|>\n<|im_start|>assistant\n",
    "Ġ Ċ ĉ â Ģ", "Ġthe", "ĠĠ", "\u0120\u010a\u0100", "\x01\x02\x7f\x80\x9f", "\u00ad soft", "ªº µ", "ʰʷ ˈ ˌ", "a\u0483\u0488b", "x\u20dd", "①②③", "₁₂₃", "ↀↁↂ", "㉑㊿", "〇〡〢", "〱〲", "ー々〆", "゛゜", "ꙮ", "\u115f\u3164", "\U000110bd", "𞤀𞤁", "🄰🅰", "a\u180eb", "a\u2060b",
]

PIECES = [
    "the", " The", "answer", " answers", "is", " not", "'s", "'LL", "’t", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "0", "7", "42", "1984", "٣", "²", "½", ",", ".", "!", "...", "--", "_", "é", "e\u0301", "ü", "ß", "Ж", "Привет", "ω", "日", "本語", "，", "한", "\u1112\u1161", "ا", "لله", "न", "म\u0938\u094d", "ไ", "👍", "👍🏽", "\u200d", "🧑‍🚀", "\ufe0f", "🇳🇴", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|end|>", "<note>", "<|", "|>", "<", "\u0000", "\u200b", "\u0301", "a", "B", "xyz", "(x)", "{", "}", "\\", "/", "#", "://", "@", "$", "€", "=", "==", "\"", "“", "”", "\u2028", "\u0085", "𝟚", "Ⅷ", "\U00010348", "\ufffd", "Ġ", "ª", "ʰ", "\u0488",
]
RANGES = [(0x20, 0x7E)] * 6 + [
    (0x00, 0x1F), (0x80, 0xFF), (0x100, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1FFF),
    (0x2000, 0x206F), (0x2070, 0x20FF), (0x2100, 0x218F), (0x2460, 0x24FF), (0x2600, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0xF900, 0xFFFD), (0x10000, 0x1034F),
    (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0xE0000, 0xE01EF),
]


def random_string(rng):
    """A string of one of four styles: known pieces, characters of a few scripts, runs, or a splice of hand-made ones."""
    style = rng.random()
    if style < 0.45:
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14)))
    if style < 0.75:
        ranges = [rng.choice(RANGES) for _ in range(rng.randint(1, 3))]
        return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 24)))
    if style < 0.9:
        return "".join(rng.choice(PIECES) * rng.randint(1, 12) for _ in range(rng.randint(1, 4)))
    a, b = rng.choice(HAND)[:40], rng.choice(HAND)[:40]
    cut = rng.randint(0, len(a))
    return a[:cut] + b + a[cut:]


def strings(n, seed):
    rng = random.Random(seed)
    for _ in range(n):
        yield random_string(rng)
