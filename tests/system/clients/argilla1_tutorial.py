"""What the tutorial "Collecting comparison data" does, with the client of Argilla 1.29.1 as it comes
from its registry. Run by test_argilla1.py inside the client's own environment.

usage: argilla1_tutorial.py URL API_KEY
"""
import sys
import warnings

warnings.filterwarnings("ignore")
import argilla as rg  # noqa: E402
import httpx as requests  # noqa: E402

url, key = sys.argv[1], sys.argv[2]
rg.init(api_url=url, api_key=key)
head = {"X-Argilla-Api-Key": key}

# accounts and workspaces
ws = rg.Workspace.create("my-workspace")
user = rg.User.create(username="ann", first_name="Ann", password="12345678", role="annotator")
try:
    rg.User.create(username="ann", first_name="Ann", password="12345678", role="annotator")
    sys.exit("a second user of the same name was made")
except Exception as e:
    assert "already exists" in str(e) or "409" in str(e) or "AlreadyExists" in type(e).__name__, repr(e)
ws.add_user(user.id)
assert [u.username for u in ws.users].count("ann") == 1, ws.users
assert any(u.username == "ann" for u in rg.User.list())
rg.init(api_url=url, api_key=key, workspace="my-workspace")

# the dataset: ranking, rating with 0 as a tie, text, label; guidelines
fields = [rg.TextField(name="prompt", required=True), rg.TextField(name="response-1", required=True),
          rg.TextField(name="response-2", required=True)]
questions = [
    rg.RankingQuestion(name="response_ranking", title="Order the responses", required=True,
                       values={"response-1": "Response 1", "response-2": "Response 2"}),
    rg.RatingQuestion(name="better", title="Which one? (0 = equal)", required=False, values=[0, 1, 2]),
    rg.TextQuestion(name="why", required=False),
    rg.LabelQuestion(name="topic", required=False, labels={"x": "X", "y": "Y"}),
]
local = rg.FeedbackDataset(guidelines="Please, read the prompt carefully and...", fields=fields, questions=questions)
texts = [("Write a follow-up für 日本 😀", "Dear [Customer]", "Thank you"), ("Second", "a", "b"), ("Third", "c", "d")]
records = [rg.FeedbackRecord(fields={"prompt": p, "response-1": a, "response-2": b}, external_id=f"r-{i}",
                             metadata={"n": i}) for i, (p, a, b) in enumerate(texts)]
records[2].suggestions = [{"question_name": "why", "value": "because", "agent": "m", "type": "model"}]
local.add_records(records)
remote = local.push_to_argilla(name="my-dataset", workspace="my-workspace")
assert len(remote) == 3, len(remote)
many = [rg.FeedbackRecord(fields={"prompt": f"p{i}", "response-1": "u", "response-2": "v"}) for i in range(300)]
remote.add_records(many)
assert len(remote) == 303

# people answer (as the web application of that server would)
mine = requests.get(url + "/api/v1/me/datasets", headers=head).json()["items"]
ds = next(d for d in mine if d["name"] == "my-dataset")
page = requests.get(f"{url}/api/v1/me/datasets/{ds['id']}/records",
                    params={"include": "responses", "limit": 50, "response_status": "missing"}, headers=head).json()
assert page["total"] == 303 and len(page["items"]) == 50
answers = [("response-1", "response-2"), ("response-2", "response-1")]
for i, rec in enumerate(page["items"][:2]):
    first, second = answers[i]
    body = {"status": "submitted", "values": {
        "response_ranking": {"value": [{"value": first, "rank": 1}, {"value": second, "rank": 2}]},
        "better": {"value": 0}}}
    r = requests.post(f"{url}/api/v1/records/{rec['id']}/responses", json=body, headers=head)
    assert r.status_code == 201, r.text
    again = requests.post(f"{url}/api/v1/records/{rec['id']}/responses", json=body, headers=head)
    assert again.status_code == 409, again.text
    if i == 1:  # change of mind
        body["values"]["better"]["value"] = 2
        put = requests.put(f"{url}/api/v1/responses/{r.json()['id']}", json=body, headers=head)
        assert put.status_code == 200 and put.json()["values"]["better"]["value"] == 2, put.text
bad = requests.post(f"{url}/api/v1/records/{page['items'][2]['id']}/responses", headers=head,
                    json={"status": "submitted", "values": {"response_ranking": {"value": [{"value": "nobody", "rank": 1}]}}})
assert bad.status_code == 422, bad.text
skip = requests.post(f"{url}/api/v1/records/{page['items'][2]['id']}/responses", headers=head,
                     json={"status": "discarded", "values": {}})
assert skip.status_code == 201, skip.text

# back: the tutorial's last step, for rankings and for ratings
feedback = rg.FeedbackDataset.from_argilla(name="my-dataset", workspace="my-workspace")
assert feedback.guidelines == "Please, read the prompt carefully and..."
assert [q.name for q in feedback.questions] == ["response_ranking", "better", "why", "topic"]
triplets, total = [], 0
for record in feedback.records:
    total += 1
    if not record.responses:
        continue
    response = record.responses[0]
    if response.status == "submitted":
        ranks = response.values["response_ranking"].value
        best, worst = sorted(ranks, key=lambda v: v.rank)
        triplets.append((record.fields["prompt"], record.fields[best.value], record.fields[worst.value]))
        assert record.external_id.startswith("r-")
assert total == 303, total
assert triplets == [(texts[0][0], "Dear [Customer]", "Thank you"), ("Second", "b", "a")], triplets
third = next(r for r in feedback.records if r.external_id == "r-2")
assert third.suggestions and third.suggestions[0].value == "because", third.suggestions
submitted = feedback.filter_by(response_status=["submitted"])
assert len(submitted.records) == 2
pulled = feedback.pull()
assert len(pulled) == 303
assert any(d.name == "my-dataset" for d in rg.FeedbackDataset.list(workspace="my-workspace"))

feedback.delete()
try:
    rg.FeedbackDataset.from_argilla(name="my-dataset", workspace="my-workspace")
    sys.exit("the deleted dataset is still there")
except ValueError:
    pass
user.delete()
print("ok")
