"""The 24 preference pairs of the reward goldens, written to tests/fixtures/reward/pairs.jsonl.

They cover what makes reward training go wrong: rows of very different length (padding), answers that already end
in one or another eos text, a shared beginning beyond the prompt, an empty prompt, an answer that is a
prefix of the other, digits, several scripts, special-token text inside, and two pairs over 64 tokens.
"""
LONG = "The lighthouse keeper counted the stairs every evening, and every evening there were one hundred and thirty-two. "

PAIRS = [
    ("What is the capital of Norway?", " It is Oslo.", " I am not sure.", 1.0),
    ("What is the capital of France?", " The capital of France is Paris.", " The capital of France is Rome.", 2.0),
    ("How do I make tea?", " Warm the pot, add 2 spoons of tea, and wait for 4 minutes.", " No.", 0.5),
    ("Human: Hi!\n\nAssistant:", " Hello, how can I help you?", " What?", 0.0),
    ("", "The answer is short.", "The answer is not short at all, because it goes on.", 0.25),
    ("Count to 12345:", " 1 2 3 4 5", " 1, 2, 3, 10, 42, 100", 1.5),
    ("Rate it.", " Good", " Good, and then bad", 0.0),
    ("Is it good?", " Yes.<|endoftext|>", " No.", 0.75),
    ("Is it bad?", " Yes.", " No.<|end|>", 0.5),
    ("Is it both?", " Yes.<|im_end|>", " No.<|im_end|>", 0.1),
    ("Say something in Norwegian.", " smørrebrød, på norsk", " deja vu", 1.0),
    ("Переведи:", " Привет, мир!", " Hello", 0.3),
    ("日本語", " 日本語のテキスト", " 你好", 0.6),
    ("def count(words):", "\n    return len(words)\n", "\n\ttotal = 0\n\tfor w in words:\n\t\ttotal += 1", 1.2),
    ("a<|end|>b", " c", " d<|pad|>e", 0.0),
    ("The first or the second?", " The first.", " The second.", 0.0),
    ("Which planets are small?", " The four closest to the sun are small and made of rock.", " Mars.", 2.5),
    ("Tell me about the moon.", " It goes around the earth in 27 days.", " " + LONG * 2, 0.4),
    (LONG, "So he didn't trust his memory.", "So.", 0.9),
    ("Thank you.", " You're welcome! I'd be glad to help.", " ok", 0.2),
    ("x", "y", "z", 0.0),
    ("Why did the chicken cross the road?", " To get to the other side.", " I don't know, why did it?", 0.8),
    ("Write a poem about the sea.", " The sea is large,\nthe sea is old.\n", " The sea.", 1.1),
    ("Please", " explain, then.", " explain, then stop.", 0.35),
]


def rows():
    return [{"prompt": p, "chosen": c, "rejected": r, "margin": m} for p, c, r, m in PAIRS]
