#!/usr/bin/env python3
"""Make the golden files under tests/fixtures. Run through ./remake, which brings the environment.

usage: make_goldens.py [all | models | logprobs | tokenizer | pipelines | chat | reward | sampler | generate | ppo | quants | torch_files | lora | families]...

Each sub-command is one module of goldens/, whose docstring says what it writes and by which
conventions. Everything is seeded: on one machine a second run writes the same bytes; between
machines the last digits of floats may differ, which is why tests compare with a tolerance.
"""
import importlib
import sys

ORDER = ["models", "logprobs", "tokenizer", "pipelines", "chat", "reward", "sampler", "generate", "ppo", "quants", "torch_files", "lora", "families"]


def main(argv):
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else 2
    unknown = [a for a in argv if a not in ORDER + ["all"]]
    if unknown:
        print(f"make_goldens: no sub-command {unknown[0]}; known: all {' '.join(ORDER)}", file=sys.stderr)
        return 2
    for name in ORDER if "all" in argv else argv:
        print(f"== {name}", file=sys.stderr)
        importlib.import_module(f"goldens.{name}").make()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
