"""What chat templates render to: tests/fixtures/chat/.

NAME.jsonl: {"messages", "open" (add_generation_prompt), "text"} for the template NAME.jinja, written for these tests in
the shape of a family's; "text" is absent where transformers raises. expressions.jsonl: {"template", "text"} of small
pieces of Jinja over the variables of `VARS`, rendered in transformers' own environment. bos and eos are <s> and </s>.
"""
import json
import random

from transformers.utils.chat_template_utils import _compile_jinja_template

from .common import FIXTURES, write_jsonl

CHAT = FIXTURES / "chat"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TEXTS = ["hi", "", "  two  spaces ", "line\n\nline\r\n", "<think>\nwhy?\n</think>\n\nso", "</think>", "日本語 👍🏽", "{{ x }} {% if %}", '"q" \\ \'s\'', "\t\u00a0x\u3000", "<|im_end|>"]
VARS = {
    "s": "Hello, World", "t": "  \t pad\u00a0\n", "u": "naïve 日本語 👍", "e": "", "n": 7, "z": 0, "f": 2.5, "yes": True, "no": False, "nothing": None,
    "l": ["b", "a", "C", "a"], "nums": [3, 1, 2], "d": {"b": 1, "a": [1, "two", None, True], "items": "own"}, "rows": [{"role": "user", "n": 1}, {"role": "tool", "n": 2, "x": {"y": "deep"}}, {"role": "user"}],
    "q": 'it\'s "so"\\\n\u0001é', "empty": [], "nest": [[1, 2], [3]],
}
EXPRESSIONS = r"""
{{ s }}|{{ n }}|{{ f }}|{{ yes }}|{{ nothing }}|{{ missing }}|{{ l }}|{{ d }}|{{ (1, 'a') }}|{{ (1,) }}|{{ [] }}|{{ {} }}
{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 ** 2 }} {{ 2 ** -1 }} {{ -2 ** 2 }}
{{ 1.0 }} {{ 1e2 if false }} {{ 0.1 + 0.2 }} {{ 100000.0 * 1000000000000.0 }} {{ 1.5 * 2 }} {{ 10 / 5 }} {{ 3.0 // 2 }} {{ 0.00001 * 1 }}
{{ "a" + "b" ~ 1 ~ none ~ true }} {{ 1 ~ 2 + 3 if false else 'x' }} {{ 'ab' * 3 }} {{ 3 * 'x' }} {{ [1] + [2, 3] }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' != 'b' }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1} }} {{ none == false }}
{{ 'el' in s }} {{ 'x' not in s }} {{ 2 in nums }} {{ 'a' in d }} {{ 'q' in d }} {{ 'x' in missing }} {{ not 1 in nums }}
{{ yes and n }} {{ z and n }} {{ z or n }} {{ e or 'alt' }} {{ not e }} {{ not yes or yes }} {{ none or missing or 'end' }}
{{ 'a' if yes else 'b' }} {{ 'a' if no else 'b' }} [{{ 'a' if no }}] {{ 'a' if no else 'b' if no else 'c' }}
{{ s[0] }} {{ s[-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[-5:] }} {{ s[:-7] }} {{ s[::2] }} {{ u[6:9] }} {{ u[-1] }} {{ u[::-1] }} {{ s[100:] }} {{ s[5:2] }} {{ s[10:0:-3] }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[::-1] }} {{ nums[:2] }} [{{ l[10] }}] {{ nest[0][1] }} {{ d['a'][1] }} {{ d.a[2] }} {{ d.b }} [{{ d.zz }}] {{ d['items'] }} {{ nums.0 }}
{{ d.items() | list }} {{ d.keys() | list }} {{ d.values() | list }} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 'z') }} {% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{{ t.strip() }}| {{ t.lstrip() }}|{{ t.rstrip() }}|{{ 'xxaxx'.strip('x') }} {{ 'xyaxy'.lstrip('yx') }} {{ 'a\n'.rstrip('\n') }}| {{ 'www.é.com'.strip('wé.') }}
{{ s.split(', ') }} {{ s.split('l') }} {{ s.split('l', 1) }} {{ '  a  b '.split() }} {{ ' a b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split() }} {{ ''.split(',') }}
{{ s.startswith('He') }} {{ s.endswith(('x', 'ld')) }} {{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ s.find('o') }} {{ s.find('zz') }} {{ s.rfind('o') }} {{ u.find('日') }} {{ s.count('l') }}
{{ s.upper() }} {{ s.lower() }} {{ 'hello wORLD'.capitalize() }} {{ "hello wORLD it's".title() }} {{ 'é'.upper() }} {{ ', '.join(l) }} {{ 'a\nb\r\nc'.splitlines() }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }}
{{ '12'.isdigit() }} {{ '1a'.isdigit() }} {{ 'ab'.isalpha() }} {{ ' \t'.isspace() }} {{ ''.isalnum() }}
{{ t | trim }}| {{ s | upper }} {{ s | lower }} {{ s | length }} {{ u | length }} {{ l | count }} {{ d | length }} {{ missing | length }} {{ 'ab' | first }} {{ l | first }} {{ nums | last }}
{{ l | join }} {{ l | join('-') }} {{ nums | join(', ') }} {{ rows | join('/', attribute='role') }} {{ rows | map(attribute='role') | list }} {{ rows | map(attribute='n', default=0) | list }} {{ l | map('upper') | join }}
{{ missing | default('x') }} {{ e | default('x') }}| {{ e | default('x', true) }} {{ nothing | default('y') }} {{ missing | d }}|
{{ d | tojson }} {{ l | tojson }} {{ q | tojson }} {{ u | tojson }} {{ none | tojson }} {{ f | tojson }} {{ yes | tojson }} {{ nums | tojson(indent=2) }} {{ d | tojson(indent=4) }} {{ empty | tojson(indent=2) }} {{ d | tojson(sort_keys=true) }} {{ d | tojson(separators=(',', ':')) }}
{{ q }} {{ [q] }} {{ ['a\tb', "it's", 'say "x"'] }}
{{ rows | selectattr('role', 'equalto', 'user') | list | length }} {{ rows | rejectattr('role', 'eq', 'user') | list }} {{ rows | selectattr('x') | list | length }} {{ rows | selectattr('x', 'defined') | list | length }} {{ nums | select('gt', 1) | list }} {{ nums | reject('odd') | list }} {{ [0, 1, ''] | select | list }}
{{ nums | sort }} {{ l | sort }} {{ l | unique | list }} {{ d | dictsort }} {{ nums | reverse | list }} {{ 'abc' | reverse }} {{ rows | sort(attribute='role') | map(attribute='role') | join(',') }}
{{ '3' | int + 1 }} {{ 'x' | int }} {{ 'x' | int(9) }} {{ '2.7' | int }} {{ '2.5' | float }} {{ 3 | string + 'a' }} {{ -3 | abs }} {{ 'a\nb\n\nc' | indent }} {{ 'a\nb' | indent(2, true) }} {{ d | items | list | length }}
{{ s is string }} {{ n is number }} {{ d is mapping }} {{ l is iterable }} {{ l is sequence }} {{ d is sequence }} {{ nothing is none }} {{ missing is defined }} {{ missing is undefined }} {{ yes is true }} {{ 1 is true }} {{ no is false }} {{ n is not none }} {{ yes is boolean }} {{ 1 is integer }} {{ 1.0 is float }} {{ n is odd }} {{ n is divisibleby 7 }} {{ n is eq 7 }} {{ 'a' is in ['a'] }} {{ n is sameas n }} {{ s is mapping }} {{ true is number }}
{% set x = 1 %}{% for i in nums %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}
{% set ns = namespace(a=0, b='x') %}{% for i in nums %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}
{% for i in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('o', 'e') }};{% endfor %}
{% for i in nums if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }} {% else %}none{% endfor %}{% for i in [] %}x{% else %}none{% endfor %}{% for i in missing %}x{% endfor %}
{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %} {{ range(3) | list }} {{ range(5, 0, -2) | list }} {{ range(2, 4) | list }}
{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %} {% set a, b = 5, 6 %}{{ a }}{{ b }} {% for c in 'né' %}{{ c }}.{% endfor %} {% for k in d %}{{ k }}{% endfor %}
{% macro m(a, b='B', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(b=2, a=1) | upper }}{{ m() }}
{% macro fact(n) %}{% if n < 2 %}1{% else %}{{ n }}*{{ fact(n - 1) }}{% endif %}{% endmacro %}{{ fact(5) }}
{% set out %}a{{ n }}b{% endset %}{{ out }}{{ out | length }}{% set up | upper %}x{% endset %}{{ up }}
{% if e %}1{% elif z %}2{% elif n %}3{% else %}4{% endif %}{% if not e and (z or n) %}y{% endif %}
{% if true %}
  a
{% endif %}
b
   {% if true %}  c{% endif %}   
{{ 'd' }}
  {#- comment -#}
e {#+ x #}
{%- if true -%}   f   {%- endif -%}   g
   {%+ if true %}h{% endif +%}
i{{- ' j ' -}}   k
{% raw %}{{ x }} {% y %}{% endraw %} {{ '{{' }} {{ "}}" }} {{ '%}' }} {{ {'a': {'b': 1}} }}{{ {'a': 1}['a'] }}
{{ "a\tb\x41\u00e9\\n\q" }} {{ 'it\'s' }} {{ "a" "b" 'c' }} {{ 'multi
line' }}
{{ dict(a=1, b='x') }} {{ dict(d, z=1) | length }} {{ namespace(x=1).x }} {{ bos_token }}{{ eos_token }}
{{ ([1, 2, 3] | length) > 2 and 'ok' }} {{ rows[-1].role }} {{ rows[1].x.y }} {{ rows[0]['x'] is defined }} {{ (rows | first).n }} {{ rows[1:][0].n }} {{ (1, 2)[1] }}
{% generation %}gen{{ n }}{% endgeneration %} {{ none is none and not none }} {{ 'a' 'b' | upper }} {{ -n | abs }} {{ +n }} {{ not not n }}
{{ 1_000 }} {{ [1, 2,] }} {{ {'a': 1,} }} {{ d.a | length }} {{ d['a'] | tojson }} {{ l.index('a') }} {{ l.count('a') }} {{ 'x' ~ [1, {'k': none}] }}
""".strip("\n")
ERRORS = ["{{ missing.x }}", "{{ raise_exception('no') }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ missing + 'a' }}", "{{ 1 // 0 }}", "{% for i in 5 %}{% endfor %}", "{{ 'a' < 1 }}", "{{ nothing.x.y }}", "{{ l.append(1) }}", "{% if %}x{% endif %}", "{{ 'a }}", "{% for x %}{% endfor %}", "{% endif %}", "{{ x | nosuch }}", "{{ n is nosuch }}", "{{ nothing() }}", "{{ missing() }}", "{% if true %}", "{{ }}", "{% set x.y = 1 %}", "{{ nothing | length }}", "{{ ', '.join(nums) }}", "{% set a, b = nums %}", "{% nosuch %}"]


def snippets():
    """Lines, but for the block about white space, which is one."""
    block, rest = [], []
    for line in EXPRESSIONS.split("\n"):
        rest.append(line)
    text = "\n".join(rest)
    start, end = text.index("{% if true %}\n"), text.index("{% raw %}")
    block = text[start:end]
    yield from (line for line in text[:start].split("\n") if line)
    yield block
    tail = text[end:].replace("'multi\nline'", "'multi\0line'")
    yield from (line.replace("\0", "\n") for line in tail.split("\n") if line)


def render(source, **values):
    try:
        return _compile_jinja_template(source).render(**TOKENS, **values)
    except Exception:  # whatever the template makes Python raise
        return None


def conversations():
    rng = random.Random(4)
    yield [{"role": "user", "content": "hi"}]
    yield [{"role": "tool", "content": "x"}]
    for _ in range(25):
        rows = [{"role": "system", "content": rng.choice(TEXTS)}] if rng.random() < 0.4 else []
        rows += [{"role": ["user", "assistant"][i % 2], "content": rng.choice(TEXTS)} for i in range(rng.randint(1, 4))]
        yield rows if rng.random() < 0.9 else rows[::-1]


def make():
    for path in sorted(CHAT.glob("*.jinja")):
        source, rows = path.read_text(encoding="utf-8"), []
        for i, messages in enumerate(conversations()):
            opened = i % 3 != 0
            text = render(source, messages=messages, add_generation_prompt=opened, tools=None, documents=None)
            rows.append({"messages": messages, "open": opened, **({"text": text} if text is not None else {})})
        write_jsonl(f"chat/{path.stem}.jsonl", rows)
    rows = []
    for source in [*snippets(), *ERRORS]:
        text = render(source, **VARS)
        if (text is None) != (source in ERRORS):
            raise SystemExit(f"jinja2 {'refuses' if text is None else 'takes'} {source!r}")
        rows.append({"template": source, **({"text": text} if text is not None else {})})
    write_jsonl("chat/expressions.jsonl", [{"vars": VARS}, *rows])
