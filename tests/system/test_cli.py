"""What every verb has in common: help, and words that are off."""
import subprocess

import pytest

from conftest import podium_bin


@pytest.fixture
def say():
    return lambda *words: subprocess.run([podium_bin(), *words], capture_output=True, text=True, timeout=60)


def test_a_mistyped_verb_is_guessed(say):
    near, far = say("generat"), say("xyzzy")
    assert (near.returncode, near.stderr) == (2, "podium: no verb 'generat'; did you mean 'generate'?\n")
    assert far.returncode == 2 and "podium --help" in far.stderr


def test_every_verb_has_a_page(say):
    verbs = [line.split()[0] for line in say("--help").stdout.splitlines() if line.startswith("  ")]
    assert len(verbs) >= 17
    for verb in verbs:
        for words in ([verb, "--help"], ["help", verb]):
            page = say(*words)
            assert page.returncode == 0 and page.stdout.startswith(f"podium {verb}: "), words
            assert page.stderr == ""
