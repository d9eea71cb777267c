"""The original demonstration's wire, and three of its clients, as processes, against `fedlab server
--original`."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests

import fedlab
from fedlab import original
from fedlab.checkpoint import load_checkpoint
from fedlab.federation import Federation, Limits
from fedlab.http.app import create_app
from fedlab.http.server import Server
from fedlab.messages import Refused
from fedlab.plan import Plan
from fedlab.strategies import async_average

ROOT = Path(__file__).parents[1]
TOKEN = "the-token"


@pytest.fixture
def federation():
    """A running asynchronous federation over a model of 8 numbers."""
    weights = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([-1, 1], np.float32)]
    federation = Federation(weights, async_average(), limits=Limits())  # as a server has
    federation.start(Plan(rounds=None))
    yield federation
    federation.close(0)


@pytest.fixture
def http(federation):
    return create_app(federation, TOKEN, original_protocol=original.Original()).test_client()


def fetch(http, name="1"):
    return http.post("/", data={"id": name, "send": "False"})


def send(http, weights, datasets, name="1", **more):
    return http.post(
        "/", data={"id": name, "send": "True", "datasets": datasets, "weights": weights, **more}
    )


def as_json(*arrays):
    return json.dumps([np.asarray(array).tolist() for array in arrays])


ONES = as_json(np.ones((2, 3)), np.ones(2))


@pytest.mark.parametrize("word", ["False", "false", "true", "1", "", "no"])
def test_anything_but_send_true_answers_the_weights(http, federation, word):
    for answer in [
        http.post("/", data={"id": "7", "send": word}),
        http.get("/", query_string={"id": "7", "send": word}),
    ]:
        assert answer.status_code == 200 and answer.is_json
        assert answer.json == {
            "id": "7",
            "datasets": 0,
            "weights": [[[0, 1, 2], [3, 4, 5]], [-1, 1]],
        }
    assert federation.state.num_examples == 0


def test_a_form_without_send_is_a_question(http):
    assert http.post("/", data={"id": "7"}).json["datasets"] == 0


def test_an_update_is_merged_at_once(http, federation):
    answer = send(http, ONES, 5000)
    assert answer.status_code == 200 and answer.json["id"] == "1"
    assert federation.state.num_examples == 5000
    # The first update replaces the untrained model
    np.testing.assert_array_equal(federation.weights[0], np.ones((2, 3)))

    send(http, as_json(np.full((2, 3), 5), np.full(2, 5)), 15_000, name="2")
    assert federation.state.num_examples == 20_000
    np.testing.assert_allclose(federation.weights[1], [4, 4])  # (5,000 * 1 + 15,000 * 5) / 20,000
    assert all(w.dtype == np.float32 for w in federation.weights)


def test_an_update_in_the_query_is_merged_too(http, federation):
    answer = http.get(
        "/", query_string={"id": "1", "send": "True", "datasets": "5000", "weights": ONES}
    )
    assert answer.status_code == 200
    assert federation.state.num_examples == 5000


def test_counts_are_exact_although_the_client_adds_the_servers_own(http, federation):
    """Twelve shards of 5,000: 60,000, and not some 2**12 times 5,000 as with the original's."""
    for shard in range(12):
        counted = fetch(http, name=str(shard % 3)).json["datasets"]
        assert send(http, ONES, counted + 5000, name=str(shard % 3)).status_code == 200
    assert federation.state.num_examples == 60_000


def test_many_at_once_lose_nothing(federation):
    app = create_app(federation, TOKEN, original_protocol=original.Original())

    def client(name):
        with app.test_client() as http:
            for _ in range(10):
                assert (
                    send(http, ONES, fetch(http, name).json["datasets"] + 100, name).status_code
                    == 200
                )

    threads = [threading.Thread(target=client, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert federation.state.num_examples == 8 * 10 * 100


@pytest.mark.parametrize("case, fields", {
    "no weights": {"datasets": "5000"},
    "empty weights": {"datasets": "5000", "weights": ""},
    "no count": {"weights": ONES},
    "no JSON": {"datasets": "5000", "weights": "[[1, 2"},
    "a number": {"datasets": "5000", "weights": "3"},
    "an object": {"datasets": "5000", "weights": '{"a": 1}'},
    "texts": {"datasets": "5000", "weights": '[["a"], ["b"]]'},
    "too few arrays": {"datasets": "5000", "weights": as_json(np.ones((2, 3)))},
    "too many arrays": {"datasets": "5000",
    "weights": as_json(np.ones((2, 3)), np.ones(2), np.ones(2))},
    "wrong shape": {"datasets": "5000", "weights": as_json(np.ones((3, 2)), np.ones(2))},
    "ragged": {"datasets": "5000", "weights": "[[[1, 2, 3], [4, 5]], [1, 1]]"},
    "NaN": {"datasets": "5000", "weights": "[[[1, 2, 3], [4, 5, NaN]], [1, 1]]"},
    "infinity": {"datasets": "5000", "weights": "[[[1, 2, 3], [4, 5, Infinity]], [1, 1]]"},
    "beyond float32": {"datasets": "5000", "weights": "[[[1, 2, 3], [4, 5, 1e300]], [1, 1]]"},
    "beyond float64": {"datasets": "5000", "weights": "[[[1, 2, 3], [4, 5, 1e999]], [1, 1]]"},
    "a huge integer": {"datasets": "5000",
    "weights": f"[[[1, 2, 3], [4, 5, 1{'0' * 400}]], [1, 1]]"},
    "null": {"datasets": "5000", "weights": "[[[1, 2, 3], [4, 5, null]], [1, 1]]"},
    "very deep": {"datasets": "5000", "weights": "[" * 150 + "]" * 150},
    "count 0": {"datasets": "0", "weights": ONES},
    "negative count": {"datasets": "-5000", "weights": ONES},
    "count that is no number": {"datasets": "many", "weights": ONES},
    "count with a fraction": {"datasets": "5000.5", "weights": ONES},
    "more than MNIST has": {"datasets": "60001", "weights": ONES},
    "endless count": {"datasets": "9" * 200, "weights": ONES},
    "no id": {"id": "", "datasets": "5000", "weights": ONES},
    "an odd id": {"id": "<script>", "datasets": "5000", "weights": ONES},
}.items())  # fmt: skip
def test_what_cannot_be_right_is_refused_and_changes_nothing(http, federation, case, fields):
    before = [w.copy() for w in federation.weights]
    answers = [
        http.post("/", data={"id": "1", "send": "True"} | fields),
        http.get("/", query_string={"id": "1", "send": "True"} | fields),
    ]
    # As a body some are longer than the weights of this model can be, and are not read at all
    too_long = case in ("a huge integer", "very deep")
    for answer, right in zip(answers, (413 if too_long else 400, 400), strict=True):
        assert answer.status_code == right, answer.text
        assert (
            answer.is_json
            and "expected" in answer.json["error"]
            and "\n" not in answer.json["error"]
        )
    assert all(np.array_equal(a, b) for a, b in zip(before, federation.weights, strict=True))
    assert federation.state.num_examples == 0 and len(federation.history) == 0
    assert federation.status().members == []
    assert send(http, ONES, 5000).status_code == 200, "the server goes on"


def test_a_body_above_the_limit_is_refused(http, federation):
    answer = send(http, "[" + "1, " * 40_000 + "1]", 5000)
    assert answer.status_code == 413 and "at most" in answer.json["error"]
    assert federation.state.num_examples == 0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 40 + "]" * 40,
        "[" + "[]," * 30 + "[]]",
        '[{"a":{}},' + "{}," * 20 + "{}]",
        "[[[" + "1," * 40 + "1]]]",
    ],
)
def test_lists_are_counted_before_they_are_made(http, federation, monkeypatch, text):
    """A few characters each, and some 60 bytes of memory: of four million they would be much."""
    monkeypatch.setattr(original, "json", None)
    for answer in (send(http, text, 5000), http.get(f"/?id=1&send=True&datasets=5&weights={text}")):
        assert answer.status_code == 400
        # A list of two arrays, of which one holds two lists: 5, with 8 numbers
        assert answer.json["error"].endswith("; expected at most 5 lists with 8 numbers")
    assert federation.state.num_examples == 0


def test_where_a_network_is_served_its_weights_are_not_too_many():
    """What is counted of the 2NN, as its clients write it."""
    shapes = [(784, 200), (200,), (200, 200), (200,), (200, 10), (10,)]
    weights = [np.ones(shape, np.float32) for shape in shapes]
    read = original.read_weights(original.write_weights(weights), weights)
    assert all(np.array_equal(a, b) for a, b in zip(read, weights, strict=True))


def test_the_owners_limit_of_examples_is_theirs_too():
    weights = [np.zeros((2, 3), np.float32), np.zeros(2, np.float32)]
    federation = Federation(weights, async_average(), limits=Limits(examples=20_000))
    federation.start(Plan(rounds=None))
    http = create_app(federation, TOKEN, original_protocol=original.Original()).test_client()
    assert fetch(http).status_code == 200
    assert send(http, ONES, 20_000).status_code == 200
    answer = send(http, ONES, 20_001)
    assert answer.status_code == 400 and "at most 20,000" in answer.json["error"]
    federation.close(0)


def test_no_run_no_updates(http, federation):
    federation.stop()
    assert send(http, ONES, 5000).status_code == 409
    assert federation.state.num_examples == 0


# ---- who is let in -------------------------------------------------------------------------------


def test_off_unless_asked_for(federation):
    http = create_app(federation, TOKEN).test_client()
    assert send(http, ONES, 5000).status_code == 405
    assert http.get("/?id=1&send=False").status_code == 401
    assert (
        b"weights"
        not in http.get("/?id=1&send=False", headers={"Authorization": f"Bearer {TOKEN}"}).data
    ), "the page for people"
    assert federation.state.num_examples == 0


def test_the_other_routes_keep_their_token(http):
    assert http.get("/").status_code == 401
    for route in ["/model", "/status", "/history", "/task?client=1", "/task?client=original-1"]:
        assert http.get(route).status_code == 401
    # Who takes part without a token is given none
    assert "token" not in fetch(http).json
    assert http.post("/updates", data=b"").status_code == 401
    assert http.put("/", data={"id": "1", "send": "False"}).status_code == 405


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:8888"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
])  # fmt: skip
def test_no_web_page_gets_through(http, federation, headers):
    """Neither by a name of its own that it points at this machine, nor by a form or a picture that
    it sends to it.
    """
    assert (
        http.post(
            "/",
            data={"id": "1", "send": "True", "datasets": "5000", "weights": ONES},
            headers=headers,
        ).status_code
        == 403
    )
    assert (
        http.get("/", query_string={"id": "1", "send": "False"}, headers=headers).status_code == 403
    )
    assert federation.state.num_examples == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.5", "::"])
def test_loopback_only(host):
    with pytest.raises(Refused, match="expected 127.0.0.1"):
        Server(strategy=async_average(), host=host, original_protocol=original.Original())


def test_only_where_updates_are_merged_at_once():
    with pytest.raises(Refused, match="expected async_average"):
        Server(original_protocol=original.Original())


# ---- what the server makes of clients who come and go without a word -----------------------------


def test_the_status_stays_sensible(http, federation):
    fetch(http, "1"), send(http, ONES, 5000, "1"), send(http, ONES, 5000, "2")
    wait_until(lambda: len(federation.history) == 2)
    status = federation.status()
    assert [member.client for member in status.members] == ["original-1", "original-2"]
    assert (status.round, status.rounds, status.waiting_for) == (2, 0, [])
    assert [record.num_examples for record in federation.history] == [5000, 5000]


def test_nobody_waits_for_them_at_the_end(http, federation):
    fetch(http)
    began = time.monotonic()
    federation.close(grace=5)
    assert time.monotonic() - began < 4
    assert send(http, ONES, 5000).status_code == 410


def test_a_run_with_planned_rounds_does_not_end_under_them(http, federation):
    """They do not say how many updates they plan, so the run is the teacher's to end."""
    federation.stop()
    federation.start(Plan(rounds=1))
    for _ in range(3):
        assert send(http, ONES, 5000).status_code == 200
    wait_until(lambda: len(federation.history) == 3)
    status = federation.status()
    assert status.running and status.rounds == 0


def wait_until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


# ---- the real thing ------------------------------------------------------------------------------


def test_four_megabytes_of_form_over_http(mnist):
    """The 2NN's weights as the original writes them: 199,210 numbers, some 4 MB, through a real
    socket.
    """
    import requests

    with Server(
        strategy=async_average(), original_protocol=original.Original(), linger=0
    ) as server:
        server.start(rounds=None)
        fetched = requests.post(
            server.address, data={"id": "1", "send": "False"}, timeout=10
        ).json()
        assert [np.shape(values) for values in fetched["weights"]] == [
            (784, 200),
            (200,),
            (200, 200),
            (200,),
            (200, 10),
            (10,),
        ]
        # 17 digits or so each
        weights = json.dumps(
            [(np.asarray(values) - 1e-5).tolist() for values in fetched["weights"]]
        )
        assert len(weights) > 4e6
        answer = requests.post(
            server.address,
            data={"id": "1", "send": "True", "datasets": 5000, "weights": weights},
            timeout=10,
        )
        assert answer.status_code == 200, answer.text
        assert server.federation.state.num_examples == 5000


# ---- grey values ---------------------------------------------------------------------------------


class Knows:
    """Stands for a model: right on images whose white is `pixels`, and a little on the others."""

    def __init__(self, pixels: int):
        self.pixels, self.asked = pixels, []

    def prepare_evaluation(self, data):
        pass

    def evaluate(self, weights, data):
        white = 1 if data.images.dtype == np.uint8 else int(data.x.max())
        self.asked.append(white)
        return (0.2, 0.95) if white == self.pixels else (3.0, 0.58)


@pytest.mark.parametrize("pixels", [1, 255])
def test_the_better_of_the_two_scales_counts(test_images, pixels):
    model = Knows(pixels)
    tested = original.evaluate_on(model, test_images)([])
    assert tested == (0.2, 0.95, pixels, f"tested on grey values 0-{pixels}")
    assert model.asked == [1, 255]


def test_where_accuracies_are_close_the_lower_loss_counts(test_images):
    """A model that has learned on 0-1: measured 95.6 and 95.5 %, with losses of 0.15 and 29."""
    model = Knows(1)
    model.evaluate = lambda weights, data: (
        (0.15, 0.955) if data.images.dtype == np.uint8 else (29.0, 0.956)
    )
    assert original.evaluate_on(model, test_images)([])[:3] == (0.15, 0.955, 1)


def test_a_scale_decided_by_hand_is_the_only_one(test_images):
    model = Knows(1)
    assert original.evaluate_on(model, test_images, 255)([])[:3] == (3.0, 0.58, 255)
    assert model.asked == [255]
    with pytest.raises(Refused, match="pixels is 128; expected 1, 255, or None"):
        original.Original(128)


def test_a_model_that_learned_on_0_to_255_is_judged_on_0_to_255(mnist, test_images, tmp_path):
    """With a real model: trained as the original's clients train, on its images as they are."""
    data = original.scaled(mnist.train.subset(np.arange(2_000)), 255)
    assert data.x.max() == 255 and data.x.dtype == np.float32
    training = fedlab.Training(3, 32, 0.001, "adam")
    path = tmp_path / "original.safetensors"
    strategy = async_average()
    with Server(
        test_images, strategy, original_protocol=original.Original(), checkpoint=path
    ) as server:
        classifier = fedlab.Classifier()
        weights, _ = classifier.train(server.weights, data, training, 0)
        server.start(None)
        text = original.write_weights(weights)
        answer = requests.post(
            server.address, {"id": "1", "send": "True", "datasets": "2000", "weights": text}
        )
        assert answer.status_code == 200
        wait_until(lambda: len(server.history) == 1)
        server.stop()
        record = server.history.last
        page = requests.get(f"{server.address}history", headers=bearer(server)).json()
    misjudged = classifier.evaluate(weights, test_images)[1]
    assert record.accuracy > misjudged and record.pixels == 255
    assert record.note == page[0]["note"] == "tested on grey values 0-255"
    assert load_checkpoint(path)[1].last.pixels == 255


def bearer(server) -> dict:
    return {"Authorization": "Bearer " + server.url.split("token=")[1]}
