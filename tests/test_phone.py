"""The phone page of a class in a real Chromium: its training against NumPy's numbers, its messages
against Python's, its client before the server that tests clients, its rules for drawings; and the
page itself, as somebody uses it."""

import base64
import re
import threading
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
from live_class import until
from test_handwriting import DIGITS

import fedlab
from fedlab import wire
from fedlab.conformance import Examination
from fedlab.data import Dataset
from fedlab.http.routes import PAGES
from fedlab.messages import Training

pytestmark = [
    pytest.mark.slow,
    # Playwright's own event loop and pipes, closed a moment later
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PHONE = PAGES.parents[1] / "classroom" / "pages"
NOWHERE = "http://phone.test/"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; connect-src"
    " 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)

# Numbers travel as text, exactly: base64 of float32 and uint8
PREPARE = """async () => {
    const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    window.floats = text => new Float32Array(bytes(text).buffer);
    window.bytes = bytes;
    window.text = array => {
        const all = new Uint8Array(array.buffer ?? array, array.byteOffset ?? 0, array.byteLength);
        let letters = '';
        for (let i = 0; i < all.length; i += 8192) {
            letters += String.fromCharCode(...all.subarray(i, i + 8192));
        }
        return btoa(letters);
    };
    window.data = ({images, labels}) => ({images: floats(images), labels: bytes(labels)});
    const names = ['network', 'trainer', 'safetensors', 'protocol', 'together', 'drawings',
        'address'];
    for (const name of names) window[name] = await import(`/phone/${name}.js`);
}"""


def text(array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def array(text: str, like=None, dtype=np.float32) -> np.ndarray:
    found = np.frombuffer(base64.b64decode(text), dtype)
    return found if like is None else found.reshape(like.shape)


def sent(data: Dataset) -> dict:
    """A data set, as the page takes it."""
    images = data.x.reshape(-1, 784).astype(np.float32) / 255
    return {"images": text(images), "labels": text(data.y.astype(np.uint8))}


def serve(context, origin: str) -> None:
    """The page's files at this origin, from the disk, with the classroom's policy."""

    def answer(route):
        name = route.request.url.removeprefix(origin).partition("?")[0].removeprefix("phone/")
        if name.startswith(("J/", "blank")):
            name = "index.html" if name.startswith("J/") else ""
        file = next((f / name for f in (PHONE, PAGES) if name and (f / name).is_file()), None)
        body = file.read_text("utf-8") if file else "<!doctype html><title>Blank</title>"
        kind = KINDS[file.suffix] if file else "text/html"
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Security-Policy": POLICY}
        route.fulfill(body=body, headers=headers)

    context.route(re.compile(f"^{re.escape(origin)}(phone/|J/|blank)"), answer)


@pytest.fixture
def open_page(browser):
    """Opens blank pages with all modules at hand; nothing may go wrong in them."""
    contexts, wrong = [], []

    def open_at(origin: str = NOWHERE):
        context = browser.new_context()
        contexts.append(context)
        serve(context, origin)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda said: (
                said.type in ("error", "warning")
                # The browser's own words for an answer that is none, or a refusal
                and "Failed to load resource" not in said.text
                and wrong.append(said.text)
            ),
        )
        page.goto(f"{origin}blank")
        page.evaluate(PREPARE)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture(scope="module")
def classifier():
    return fedlab.Classifier(seed=3)


# ---- training ------------------------------------------------------------------------------------


def gradient(weights, images, labels):
    """That of the mean cross-entropy of the 2NN, by hand."""
    w1, b1, w2, b2, w3, b3 = (w.astype(np.float64) for w in weights)
    one = np.maximum(images @ w1 + b1, 0)
    two = np.maximum(one @ w2 + b2, 0)
    out = two @ w3 + b3
    out = np.exp(out - out.max(axis=1, keepdims=True))
    flow = out / out.sum(axis=1, keepdims=True)
    flow[np.arange(len(labels)), labels] -= 1
    flow /= len(labels)
    back_two = (flow @ w3.T) * (two > 0)
    back_one = (back_two @ w2.T) * (one > 0)
    return [
        images.T @ back_one, back_one.sum(0), one.T @ back_two, back_two.sum(0),
        two.T @ flow, flow.sum(0),
    ]  # fmt: skip


STEP = """([weights, first, data_, batch, rate, mu]) => {
    const w = weights.map(floats), {images, labels} = data(data_);
    network.step(w, first.map(floats), images, labels, Uint32Array.from(batch), rate, mu);
    return w.map(text);
}"""


@pytest.mark.parametrize("mu", [0.0, 0.7])
@pytest.mark.parametrize("batch", [[3], [0, 1, 2, 3, 4, 5, 6], [*range(10)]])
def test_one_step_is_the_step_by_hand(page, classifier, small, batch, mu):
    data = small.subset(np.arange(12))
    rng = np.random.default_rng(1)
    # Biases too, and a model that is elsewhere than where the round began
    weights = [w + rng.normal(0, 0.02, w.shape).astype(np.float32) for w in classifier.weights]
    first = classifier.weights
    sending = [[text(w) for w in weights], [text(w) for w in first], sent(data), batch, 0.1, mu]
    after = page.evaluate(STEP, sending)
    images = data.x.reshape(-1, 784)[batch].astype(np.float64) / 255
    slopes = gradient(weights, images, data.y[batch])
    for w, w0, g, mine in zip(weights, first, slopes, after, strict=True):
        expected = w - 0.1 * (g + mu * (w - w0))
        np.testing.assert_allclose(array(mine, w), expected, atol=1e-5, rtol=0)
        assert not np.array_equal(array(mine, w), w)


TRAIN = """async ([weights, data_, training, seed]) => {
    const worker = trainer.trainer(), parts = [];
    const before = performance.now();
    const trained = await worker.train(
        weights.map(floats), data(data_), training, seed, part => parts.push(part));
    const took = performance.now() - before;
    const found = await worker.measure(trained, data(data_));
    worker.end();
    return {weights: found.weights.map(text), parts, took, loss: found.loss,
        correct: found.correct, answers: found.answers};
}"""


def trained(page, weights, data, epochs, size, mu=0.0, rate=0.1, seed="1"):
    training = {"epochs": epochs, "batchSize": size, "learningRate": rate, "proximal": mu}
    return page.evaluate(TRAIN, [[text(w) for w in weights], sent(data), training, seed])


def test_a_worker_that_could_not_be_loaded_is_told_whenever_it_is_asked(page):
    told = page.evaluate("""async () => {
        const worker = trainer.trainer("/phone/nowhere.js");
        await new Promise(then => setTimeout(then, 1000));  // long before the first task
        const told = await worker.measure([], {}).catch(error => error.message);
        worker.end();
        return told;
    }""")
    assert told == "no Worker"


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_epochs_in_one_batch_are_the_librarys(page, classifier, small, mu):
    """No order, so only one result; and it says what it has measured."""
    data = small.subset(np.arange(30))
    found = trained(page, classifier.weights, data, 5, None, mu)
    expected, _ = classifier.train(
        classifier.weights, data, Training(5, None, 0.1, proximal=mu), seed=0
    )
    for mine, other in zip(found["weights"], expected, strict=True):
        np.testing.assert_allclose(array(mine, other), other, atol=1e-4, rtol=0)
    loss, accuracy = classifier.evaluate(expected, data)
    assert found["loss"] == pytest.approx(loss, abs=1e-3)
    assert found["correct"] / 30 == pytest.approx(accuracy, abs=0.04)
    assert len(found["answers"]) == 30 and found["parts"][-1] == 1


def test_batches_go_as_far_as_the_librarys(page, classifier, small):
    """Of unequal size (24 in tens), in an order of its own, which the seed decides."""
    data = small.subset(np.arange(24))
    found = trained(page, classifier.weights, data, 5, 10, rate=0.05)
    same = trained(page, classifier.weights, data, 5, 10, rate=0.05)
    other = trained(page, classifier.weights, data, 5, 10, rate=0.05, seed="2")
    expected, _ = classifier.train(classifier.weights, data, Training(5, 10, 0.05), seed=0)
    assert found["weights"] == same["weights"] != other["weights"]
    loss, _ = classifier.evaluate(expected, data)
    assert found["loss"] == pytest.approx(loss, rel=0.1)


def test_thirty_digits_take_a_moment(page, classifier, small):
    data = small.subset(np.arange(30))
    took = min(trained(page, classifier.weights, data, 5, 10)["took"] for _ in range(3))
    print(f"30 digits, 5 epochs, B = 10: {took:.0f} ms")
    assert took < 2_000


# ---- messages ------------------------------------------------------------------------------------

READ = """message => {
    const {arrays, texts} = safetensors.read(bytes(message).buffer);
    const all = Object.entries(arrays);
    return [Object.fromEntries(all.map(([name, {shape, data}]) => [name, [shape, text(data)]])),
        texts];
}"""
WRITE = """([arrays, texts, half]) => text(new Uint8Array(safetensors.write(
    Object.fromEntries(Object.entries(arrays).map(
        ([name, [shape, data]]) => [name, {shape, data: floats(data)}])), texts, half)))"""


def odd_numbers() -> np.ndarray:
    """Those at which roundings differ: halfway, too small, too large, none."""
    rng = np.random.default_rng(0)
    halves = np.arange(0, 0x7C00, 7, np.uint16).view(np.float16).astype(np.float32)
    between = (halves[1:] + halves[:-1]) / 2
    special = np.float32([0, -0.0, 65504, 65519.99, 65520, 1e6, 6e-8, 2.9e-8, 2.98e-8, np.inf])
    return np.concatenate([halves, between, -between, special, -special, rng.normal(size=500)])


@pytest.mark.parametrize("half", [False, True])
def test_messages_come_and_go_as_python_has_them(page, half):
    numbers = odd_numbers().astype(np.float32)
    arrays = {"0000": numbers, "0001": np.arange(6, dtype=np.float32).reshape(2, 3)}
    kind = np.float16 if half else np.float32
    with np.errstate(over="ignore"):
        narrow = {name: a.astype(kind) for name, a in arrays.items()}
    texts = {"kind": "model", "version": "7", "who": "Ämne ✓"}
    found, read = page.evaluate(
        READ, text(np.frombuffer(wire.pack(wire.Parts(narrow, texts)), "u1"))
    )
    assert read == texts and list(found) == ["0000", "0001"]
    for name, (shape, mine) in found.items():
        assert tuple(shape) == arrays[name].shape
        np.testing.assert_array_equal(array(mine, narrow[name]), narrow[name].astype(np.float32))
    sending = {name: [list(a.shape), text(a)] for name, a in arrays.items()}
    written = wire.unpack(base64.b64decode(page.evaluate(WRITE, [sending, texts, half])))
    assert written.texts == texts
    for name, a in written.arrays.items():
        assert a.dtype == kind and a.shape == arrays[name].shape
        np.testing.assert_array_equal(a, narrow[name])


def test_what_is_no_message_is_an_error(page):
    whole = wire.pack(wire.Parts({"0000": np.zeros(4, np.float32)}, {}))
    for broken in (b"", b"12345678", whole[:-1], whole[:20], b"\xff" * 16):
        wrong = page.evaluate(
            "m => { try { safetensors.read(bytes(m).buffer) } catch (e) { return e.name } }",
            base64.b64encode(broken).decode(),
        )
        assert wrong


# ---- the client before the examination -----------------------------------------------------------

TAKE_PART = """async ([token, client, data_]) => {
    const worker = trainer.trainer();
    window.happened = [];
    window.ended = '';
    try {
        await together.takePart({
            base: new URL('/', location.href), token, client, session: 'a secret of its own',
            examples: data(data_), trainer: worker, said: what => happened.push(what.doing),
        });
        ended = 'over';
    } catch (error) {
        ended = `${error.name}: ${error.message}`;
    }
    worker.end();
}"""


@pytest.mark.parametrize("lossy", [False, True], ids=["calm", "lossy"])
def test_the_client_passes_the_examination(open_page, small, lossy):
    data = small.subset(np.arange(60))
    with Examination("Blue Otter", data, lossy=lossy) as examination:
        address, token = examination.url.split("?token=")
        page = open_page(address)
        page.evaluate(f"task => void ({TAKE_PART})(task)", [token, "Blue Otter", sent(data)])
        found = SimpleNamespace(report=None, ended="")

        def lead():
            why = lambda: found.ended.removeprefix("over")  # noqa: E731
            found.report = examination.run(lambda: not found.ended, why)

        leading = threading.Thread(target=lead)
        leading.start()
        while leading.is_alive():
            page.wait_for_timeout(30)
            found.ended = page.evaluate("window.ended")
        assert found.report.passed, repr(found.report)
        assert page.evaluate("happened").count("training") > 1


CHANGING = """async ([token, client, rounds]) => {
    const fetched = fetch;
    window.joins = 0;
    window.fetch = (url, request) => {
        joins += request.method === 'POST' && url.pathname.endsWith('/clients');
        return fetched(url, request);
    };
    window.trained = [];
    let mine = rounds.shift();
    const worker = {
        train: async (weights, {labels}, training, seed) => {
            if (!seed.endsWith('alone')) trained.push([...labels]);
            return weights;
        },
        measure: async weights => ({correct: 0, total: 0, loss: 0, answers: [], weights}),
        inTurn: work => work(),
    };
    await together.takePart({
        base: new URL('/', location.href), token, client, session: 'a secret of its own',
        examples: () => ({images: new Float32Array(784 * mine.length), labels: mine}),
        trainer: worker, said: ({doing}) => doing === 'sent' && (mine = rounds.shift() ?? mine),
    }).catch(() => {});
}"""


def test_each_round_trains_on_the_drawings_as_they_are_then(open_page):
    """Also on as many that are called otherwise; it joins again only where they are more."""
    rounds = [[1, 7], [4, 7], [4, 7, 9]]
    with fedlab.Server() as server:
        address, token = server.url.split("?token=")
        page = open_page(address)
        page.evaluate(f"task => void ({CHANGING})(task)", [token, "Blue Otter", rounds])
        history = server.run(3, min_clients=1, progress=False)
        assert page.evaluate("[trained, joins]") == [rounds, 2]
    counts = [record.clients["Blue Otter"].num_examples for record in history]
    assert counts == [2, 2, 3]


# ---- the rules for drawings ----------------------------------------------------------------------


def flat(strokes) -> list[list[int]]:
    """Strokes as the page keeps them, in its square of 256."""
    return [[int(v) for x, y in s for v in (40 + 1.5 * x, 15 + 1.5 * y)] for s in strokes]


SEVEN = flat(DIGITS[7])


def test_every_fifth_is_kept_aside_whatever_is_deleted(page):
    aside, labels, own, held = page.evaluate(
        """stroke => {
            let all = drawings.nothing();
            for (let i = 0; i < 10; i++) all = drawings.kept(all, stroke, i);
            for (const id of [0, 1, 2]) all = drawings.without(all, id);
            for (let i = 0; i < 5; i++) all = drawings.kept(all, stroke, 3);
            all = drawings.relabelled(all, 4, 8);
            const some = which => [...drawings.examples(all, which).labels];
            return [all.drawings.filter(one => one.aside).map(one => one.id),
                drawings.counts(all), some(false), some(true)];
        }""",
        SEVEN,
    )
    assert aside == [4, 9, 14]
    assert labels == [0, 0, 0, 6, 0, 1, 1, 1, 2, 1]
    assert own == [3, 5, 6, 7, 8, 3, 3, 3, 3] and held == [8, 9, 3]


def test_the_next_digit_is_one_of_the_fewest(page):
    """Each once in ten, in an order that is another on another phone and in the next ten."""
    orders = page.evaluate(
        """stroke => [1, 1, 2].map(seed => {
            let all = drawings.nothing();
            const asked = [];
            for (let i = 0; i < 20; i++) {
                asked.push(drawings.nextDigit(all, seed));
                all = drawings.kept(all, stroke, asked.at(-1));
            }
            return asked;
        })""",
        SEVEN,
    )
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert sorted(order[:10]) == sorted(order[10:]) == list(range(10)) != order[:10]
        assert order[:10] != order[10:]


def test_what_is_missing_before_one_may_train(page):
    said = page.evaluate(
        """stroke => [[], [7, 7], Array(12).fill(6), [1, 2, 3], Array(9).fill(1).concat(2)]
            .map(labels => drawings.missing(labels.reduce(
                (all, label) => drawings.kept(all, stroke, label), drawings.nothing()), 10))""",
        SEVEN,
    )
    assert said == [
        "10 more digits, then you train.",
        "Draw other digits too: a model that only sees sevens says seven.",
        "Draw other digits too: a model that only sees sixes says six.",
        "7 more digits, then you train.",
        "",
    ]


def test_scribbles_dots_and_nothing_are_refused(page):
    lines = [[10, y, 240, y] for y in range(10, 250, 6)]
    cases = [[], [[128, 128]], [[100, 100, 104, 103]], lines, *map(flat, DIGITS.values())]
    said = page.evaluate("cases => cases.map(one => drawings.refused(one))", cases)
    assert "nothing" in said[0] and "dot" in said[1] and "dot" in said[2] and "ink" in said[3]
    assert said[4:] == [""] * 10


def test_a_new_address_has_the_drawings_behind_the_hash(page):
    """Which no server is sent; and what comes back is looked at: anybody can write an address."""
    addresses = page.evaluate(
        """told => told.map(one => {
            try { return address.newAddress(one, 'K7QXM', {made: 1}) }
            catch (e) { return e.message }
        })""",
        ["192.168.1.30:8642", "http://a.b/x/J/ZZZZZ?token=1", "https://a.b/j/", " ", "http://[x"],
    )
    carried = "#carried=%7B%22made%22%3A1%7D"
    assert addresses[:3] == [
        f"http://192.168.1.30:8642/J/K7QXM{carried}",
        f"http://a.b/x/J/ZZZZZ{carried}",
        f"https://a.b/j/K7QXM{carried}",
    ]
    assert all("no address" in sentence for sentence in addresses[3:])
    good = {"id": 0, "label": 7, "aside": False, "strokes": SEVEN}
    wrong = [
        {"label": 10},
        {"strokes": [[1]]},
        {"strokes": []},
        {"id": 5},
        {"strokes": [["<b>", 2]]},
    ]
    values = [None, {}, *({"made": 1, "drawings": [{**good, **one}]} for one in [{}, *wrong])]
    kept = page.evaluate("values => values.map(one => drawings.checked(one) !== null)", values)
    assert kept == [False, False, True] + [False] * len(wrong)


# ---- the page in a class -------------------------------------------------------------------------


@pytest.fixture
def open_class(small, test_images):
    from fedlab.classroom.live import LiveClass

    few = fedlab.data.Mnist(small, test_images)
    with ExitStack() as classes:

        def open_one(code: str, port: int = 0):
            settings = {"minimum": 1, "host": "127.0.0.1", "port": port}
            return classes.enter_context(LiveClass(few, code=code, **settings))

        yield open_one


@pytest.fixture
def live(open_class):
    return open_class("K7QXM")


class Phone:
    """Somebody with a phone, in this class."""

    def __init__(self, browser, live, size=(360, 740), scheme="light"):
        width, height = size
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=True
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.live, self.wrong = live, []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(live.server.url.partition("?")[0] + "J/K7QXM")
        self.page.locator("#begin:enabled").click()
        self.find("#paper").wait_for()

    def find(self, selector):
        return self.page.locator(selector)

    def draw(self, digit: int) -> None:
        box = self.find("#paper").bounding_box()
        scale = box["width"] / 170
        for stroke in DIGITS[digit]:
            for number, (x, y) in enumerate(stroke):
                place = box["x"] + (x + 35) * scale, box["y"] + (y + 15) * scale
                self.page.mouse.move(*place)
                if not number:
                    self.page.mouse.down()
            self.page.mouse.up()

    def keep(self, count: int) -> None:
        """Draws what it is asked for, so many times."""
        for _ in range(count):
            self.draw(int(self.find("#ask").inner_text()[-1]))
            self.find("#keep").click()

    def wait_for(self, selector: str, words: str) -> None:
        self.find(selector).filter(has_text=words).wait_for()

    def places(self) -> list:
        """Where everything is that is on the drawing screen."""
        return self.page.evaluate(
            """() => ['header', '#ask', '#paper', '#undo', '#keep', '#bars', '#told', '#train',
                'footer'].map(one => document.querySelector(one).getBoundingClientRect().top)"""
        )

    def violations(self) -> list:
        """What axe-core finds wrong."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]


@pytest.fixture
def phone(browser, live):
    phones = []

    def open_phone(*args, **options):
        phones.append(Phone(browser, live, *args, **options))
        return phones[-1]

    yield open_phone
    for one in phones:
        one.context.close()
    assert [one.wrong for one in phones] == [[]] * len(phones)


def test_from_the_code_to_a_model_of_the_class_and_out(phone, live):
    """Nothing jumps; nothing is to be scrolled; a training is seen for two seconds; removed is red,
    and one may ask again.
    """
    one = phone()
    empty = one.places()
    assert one.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert one.find("#keep").is_disabled() and one.find("#train").is_disabled()
    assert one.violations() == []
    one.keep(9)
    assert one.places() == empty and one.find("#train").is_disabled()
    one.keep(1)
    assert one.places() == empty and one.find("#train").is_enabled()
    one.find("#train").click()
    one.wait_for("#doing", "You are in")
    one.wait_for("#before", " of 2")
    live.start(2)
    one.wait_for("#doing", "Training")
    began = one.page.evaluate("performance.now()")
    one.wait_for("#doing", "Well done")
    assert one.page.evaluate("performance.now()") - began > 1_500
    assert one.find("#answers li").count() == 2
    assert one.violations() == []
    live.wait(30)
    (student,) = live.students()
    assert tuple(student.drawn) == (8, 2, 10) and len(student.measured) > 1
    name = student.client
    live.remove(name)
    one.wait_for("#gone-before", "Your teacher has removed you")
    assert one.find("#gone-name").inner_text() == name
    one.find("#again").click()
    one.wait_for("#welcome-before", "You are")
    one.find("#begin").click()
    one.wait_for("#mine-count", "10")
    assert one.violations() == []


def test_with_the_keyboard_alone(phone):
    one = phone(scheme="dark")
    press = one.page.keyboard.press
    one.find("#paper").focus()
    for key in ["Space", *["ArrowDown"] * 9, *["ArrowRight"] * 4, "Space"]:
        press(key)
    assert one.find("#keep").is_enabled()
    press("Enter")
    one.wait_for("#told", "Kept, drawing 1.")
    assert one.page.evaluate("document.activeElement.id") == "paper"
    for key in ["Space", "ArrowDown", "ArrowDown", "ArrowDown", "Space", "Backspace"]:
        press(key)
    assert one.find("#undo").is_disabled()
    assert one.violations() == []


def test_a_reload_a_second_tab_and_a_server_that_is_away(phone, live):
    one = phone((320, 568))
    one.keep(2)
    (student,) = live.students()
    one.page.reload()
    one.wait_for("#mine-count", "2")
    assert one.find("#name").inner_text() == student.client
    other = one.context.new_page()
    other.goto(one.page.url)
    one.wait_for("#elsewhere-title", "Another tab")
    one.find("#here").click()
    one.wait_for("#mine-count", "2")
    other.locator("#elsewhere-title").wait_for()
    other.close()
    one.context.set_offline(True)
    one.find("#lost").wait_for()
    assert one.violations() == []
    one.keep(1)
    one.context.set_offline(False)
    one.find("#state").wait_for()
    assert one.find("#mine-count").inner_text() == "3"
    assert [s.client for s in live.students()] == [student.client]


def left_open(phone, live, open_class):
    """A page with two drawings, whose class is over, and another one at its address: the page, who
    it was, and the class NEWER.
    """
    one = phone()
    one.keep(2)
    (before,) = live.students()
    port = live.server.port
    live.close()
    return one, before, open_class("NEWER", port)


def test_another_code_after_a_restart_brings_the_drawings_along(phone, live, open_class):
    """The teacher's kernel was restarted: the same page, the same student, the same drawings. What
    the browser has stored of other classes stays there: a tablet may be somebody else's.
    """
    one, before, again = left_open(phone, live, open_class)
    for code in ("WRNG2", "newer"):  # mistyped once
        one.wait_for("#code-told", "not the code of the class")
        one.find("#code").fill(code)
        one.find("#enter").click()
    one.page.locator("#begin:enabled").click()
    one.wait_for("#mine-count", "2")
    one.wait_for("#class", "class NEWER")
    (after,) = again.students()
    assert (after.session, after.client) == (before.session, before.client)
    one.page.goto(one.page.url.replace("NEWER", "KTHER"))
    one.wait_for("#code-told", "not the code of the class")
    kept = "code => JSON.parse(localStorage[`fedlab.${code}.drawings`]).drawings.length"
    assert [one.page.evaluate(kept, code) for code in ("NEWER", "KTHER")] == [2, 0]


def test_a_training_that_did_not_load_is_told_holds_up_nobody_and_is_tried_anew(phone, live):
    one = phone()
    one.keep(10)
    one.context.route("**/train.js", lambda route: route.abort())
    one.find("#train").click()
    one.wait_for("#doing", "Stopped")
    one.wait_for("#doing-more", "This page has failed")
    assert set(one.wrong) == {"no Worker"}
    one.wrong.clear()
    until(lambda: not live.federation.status().members)
    one.context.unroute("**/train.js")
    one.find("#stop").click()
    one.wait_for("#doing", "You are in")
    live.start(1)
    one.wait_for("#doing", "Well done")
    assert len(live.wait(30).last.clients) == 1


def test_after_a_new_beginning_nothing_is_said_to_be_sent(phone, live):
    one = phone()
    one.keep(10)
    one.find("#train").click()
    live.start(1)
    one.wait_for("#doing", "Well done")
    live.wait(30)
    live.begin_anew()
    one.wait_for("#doing", "You are in")
    live.set_waiting(minimum=2)
    live.start(1)
    one.wait_for("#doing", "Waiting")
    live.set_waiting(minimum=1)
    live.wait(30)
    one.wait_for("#doing", "Well done")


def test_on_a_tablet_drawings_of_somebody_else_do_not_come_along(phone, live, open_class):
    """The page was left open; another class begins, and another student types its code."""
    one, before, again = left_open(phone, live, open_class)
    one.wait_for("#code-told", "not the code of the class")
    one.wait_for("#along-said", f"I am {before.client}: bring my 2 drawings along")
    assert one.violations() == []
    one.find("#bring").uncheck()
    one.find("#code").fill("newer")
    one.find("#enter").click()
    one.page.locator("#begin:enabled").click()
    one.wait_for("#mine-count", "0")
    (after,) = again.students()
    assert after.session != before.session


@pytest.mark.parametrize("mine", [True, False])
def test_at_another_address_and_in_another_class_it_is_asked_as_well(phone, live, open_class, mine):
    one = phone()
    one.keep(2)
    (before,) = live.students()
    live.close()
    again = open_class("NEWER")
    one.find("#lost").click()
    one.find("#address").fill(f"{again.server.url.partition('?')[0]}J/NEWER")
    one.find("#address-form .go").click()
    one.wait_for("#along-said", f"I am {before.client}: bring my 2 drawings along")
    assert one.find("#code").input_value() == "NEWER" and not again.students()
    if not mine:
        one.find("#bring").uncheck()
    one.find("#enter").click()
    one.page.locator("#begin:enabled").click()
    one.wait_for("#mine-count", "2" if mine else "0")
    (after,) = again.students()
    assert (after.session == before.session) == mine


def test_a_new_address_that_is_the_old_one_is_said_and_not_gone_to(phone):
    """Nothing would load, and the drawings would stay in the address bar."""
    one = phone()
    one.keep(1)
    before = one.page.url
    one.context.set_offline(True)
    one.find("#lost").click()
    for wrong, sentence in (("http://[x", "no address"), (before, "the address already")):
        one.find("#address").fill(wrong)
        one.find("#address-form .go").click()
        one.wait_for("#address-told", sentence)
        assert one.page.url == before
    assert one.violations() == []
    one.context.set_offline(False)
    one.find("#state").wait_for()


def test_a_name_of_ones_own_waits_for_the_teacher(phone, live):
    one = phone()
    (student,) = live.students()
    one.find("#who").click()
    one.find("#wish").fill("<b>")
    one.find("#wish-go").click()
    one.wait_for("#wish-told", "This name cannot be used here")
    one.find("#wish").fill("Anna")
    one.find("#wish-go").click()
    one.wait_for("#class", "“Anna” awaits approval")
    assert one.find("#name").inner_text() == student.client
    live.approve()
    one.wait_for("#name", "Anna")
