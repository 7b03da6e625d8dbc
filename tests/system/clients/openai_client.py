"""What programs do with OpenAI's client, as it comes from its registry. Run by test_openai.py inside the client's own
environment.

usage: openai_client.py URL API_KEY MODEL
"""
import asyncio
import sys

import openai

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "tea"}]

assert [m.id for m in client.models.list()] == [model]
assert client.models.retrieve(model).object == "model"

# a chat, whole and streamed: the same words
whole = client.chat.completions.create(model=model, messages=messages, seed=5, max_tokens=30, logprobs=True, top_logprobs=2, n=2)
assert len(whole.choices) == 2 and whole.choices[0].message.role == "assistant"
assert whole.choices[0].finish_reason in ("stop", "length")
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole.usage.completion_tokens == sum(len(c.logprobs.content) for c in whole.choices)
assert all(len(t.top_logprobs) == 2 and t.logprob <= t.top_logprobs[0].logprob for t in whole.choices[0].logprobs.content)
text, finish, usage = {0: "", 1: ""}, {}, None
for chunk in client.chat.completions.create(model=model, messages=messages, seed=5, max_completion_tokens=30, n=2, stream=True,
                                            stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    for c in chunk.choices:
        text[c.index] += c.delta.content or ""
        finish[c.index] = c.finish_reason or finish.get(c.index)
assert [text[0], text[1]] == [c.message.content for c in whole.choices]
assert [finish[0], finish[1]] == [c.finish_reason for c in whole.choices] and usage == whole.usage

# texts, our own parameters
greedy = client.completions.create(model=model, prompt=["one", "two"], temperature=0, max_tokens=9, logprobs=1)
again = client.completions.create(model=model, prompt=["one", "two"], max_tokens=9, extra_body={"top_k": 1})
assert [c.text for c in greedy.choices] == [c.text for c in again.choices] and len(greedy.choices[0].logprobs.tokens) >= 1
stream = client.completions.create(model=model, prompt="one", temperature=0, max_tokens=9, stream=True)
assert "".join(c.choices[0].text for c in stream) == greedy.choices[0].text

# what asks for nothing is taken
idle = client.chat.completions.create(model=model, messages=messages, max_tokens=2, tools=[], logit_bias={}, parallel_tool_calls=False)
assert idle.choices[0].message.content is not None
tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}

# errors are the client's own
for error, ask in [
    (openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=messages, temperature=-2)),
    (openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=messages, tools=[tool])),
    (openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-4", messages=messages)),
    (openai.AuthenticationError, lambda: openai.OpenAI(base_url=url, api_key="wrong").models.list()),
]:
    try:
        ask()
        sys.exit(f"{error.__name__} was expected")
    except error as e:
        assert e.body["message"], e.body


async def many():
    """Twenty at once, a hang-up among them."""
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as a:
        first = await a.chat.completions.create(model=model, messages=messages, max_tokens=200, stream=True)
        async for _ in first:
            break
        await first.close()
        got = await asyncio.gather(*[
            a.chat.completions.create(model=model, messages=messages, seed=5, max_tokens=30, temperature=1 + 0.1 * (i % 2)) for i in range(20)])
        assert {g.choices[0].message.content for g in got[::2]} == {whole.choices[0].message.content}


asyncio.run(many())
print("ok")
