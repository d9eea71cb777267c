"""The nine questions that are asked before the course and once more after it. Each wrong answer is
what students really believe (the ten beliefs that the lessons' demonstrations correct: two of them
are in one question, "slow phones")."""

from __future__ import annotations

from fedlab.questions.question import Question

NINE = (
    Question(
        key="update",
        topic="what an update tells",
        text="A client trains a small network, in which every unit sees all pixels, on a single"
        " photo of its own, for one step. It sends the trained model to the server, and keeps the"
        " photo. What can the server's owner find out about the photo?",
        answers={
            "a": "Nothing: a trained model is only numbers, and no photo can be made of them.",
            "b": "What is to be seen on the photo, such as a 7, but not what it looks like.",
            "c": "The photo itself: its pixels can be worked out from how the model changed.",
            "d": "The photo itself, but only if somebody breaks the message's encryption first.",
        },
        right="c",
        why="Lesson 06 divides the change of a neuron's weights by the change of its bias, and has"
        " every pixel of the photo; nothing has to be broken into for that.",
        lessons=("06",),
    ),
    Question(
        key="sum",
        topic="what a sum tells",
        text="A model reads most images well already. Ten clients with one image each hide their"
        " updates under masks, so that the server can read only the sum of the ten. Nine images"
        " are ordinary; the tenth is one that the model reads wrongly. What does the sum tell"
        " about this tenth image?",
        answers={
            "a": "Much: the nine hardly change the model, so the sum is nearly its change alone.",
            "b": "A tenth: each of the ten images has the same share in what the server reads.",
            "c": "Nothing: in a sum of ten updates no single one of them can be recognised.",
            "d": "That somebody had an unusual image, but nothing of what there is to see on it.",
        },
        right="a",
        why="Lesson 07 reads the one unusual image off the sum, every pixel of it: masks hide who"
        " has said something, and what is unusual enough is still heard.",
        lessons=("07",),
    ),
    Question(
        key="noise",
        topic="the price of noise",
        text="To hide whether somebody has taken part, each client's change is cut to a certain"
        " length, and noise is added to the sum of all changes: so much that the same promise"
        " holds in a federation of 1,000 clients and in one of 100. What does that cost the two"
        " in accuracy?",
        answers={
            "a": "Next to nothing in both: noise is random, and cancels over many rounds.",
            "b": "About the same in both: the same promise takes the same amount of noise.",
            "c": "More in the large one: there the noise has ten times as many people to hide.",
            "d": "More in the small one: there the noise is shared by fewer people's changes.",
        },
        right="d",
        why="In lesson 07 the same promise takes 1,000 clients from 90 to 89 %, and 100 clients"
        " with the same model from 95 to 26 %: the noise is divided by how many take part.",
        lessons=("07",),
    ),
    Question(
        key="alone",
        topic="alone or together",
        text="Alice wants to read 4s and 9s, and no other digit. Fifty others have trained a common"
        " model for all ten digits on 30,000 images. When Alice had 10 images, this model read her"
        " digits better than one that she trained alone. Now she has 1,000. Which one reads her"
        " digits better now?",
        answers={
            "a": "The common one: 1,000 images are still few beside the others' 30,000.",
            "b": "Her own: it has two digits to tell apart, and by now images enough for it.",
            "c": "Neither: with so many images both have learned all there is to learn.",
            "d": "The common one: who trains alone learns her images by heart, and no more.",
        },
        right="b",
        why="In lesson 04 the two cross between 50 and 100 images; with 1,000 Alice's own model"
        " reads 97 % of her digits, and the common one 91 %.",
        lessons=("04",),
    ),
    Question(
        key="slow phones",
        topic="who comes too late",
        text="A server ends each round after two hours. Five of its fifty phones need longer, so"
        " their updates are never in it. The common model reads 87 % of a large set of test"
        " images, and the curve has risen well. What does that say to the owners of the five slow"
        " phones?",
        answers={
            "a": "That it reads about 87 % for them too: the test images are everybody's.",
            "b": "That it may fail at just what only they have, and the 87 % do not show it.",
            "c": "That it is no valid model: an average must have an update of each client.",
            "d": "That it is a little worse for them: a tenth of all updates is missing in it.",
        },
        right="b",
        why="In lesson 05 only the slow phones have 7s: the model has 87 %, and reads not one 7."
        " A server can go on without some clients, and one number does not tell for whom it works.",
        lessons=("05", "04"),
    ),
    Question(
        key="falling",
        topic="a curve that falls",
        text="A hundred clients have images of about two digits each, and for every round ten of"
        " them are drawn. After round 23 the common model reads 90 % of the test images, after"
        " round 24 only 79 %. What is the most likely reason?",
        answers={
            "a": "The ten clients of round 24 have pulled the model towards their own digits.",
            "b": "The model has trained for too long, and begins to learn its images by heart.",
            "c": "Something is broken: another round of training cannot make a model worse.",
            "d": "It is chance in the test: the same model is measured differently each time.",
        },
        right="a",
        why="What one round has learned the next one, with other digits, may spoil: see the curves"
        " of lesson 03 and of lesson 04 where clients have one or two digits each.",
        lessons=("03", "04"),
    ),
    Question(
        key="longer",
        topic="more training in a round",
        text="Each client has images of one digit only. With one pass through its images in each"
        " round, about 45 rounds are needed until the average of all reads 88 %. Now each client"
        " makes five passes in each round. How many rounds are needed?",
        answers={
            "a": "About 9: five times the training in a round does the work of five rounds.",
            "b": "About 20: some of the training is lost, but most of it still saves rounds.",
            "c": "About 45 or more: each goes further to its own digit, and averaging undoes it.",
            "d": "It stays below 88 %: by the fifth pass a client has forgotten the other digits.",
        },
        right="c",
        why="Lesson 04 measured 44 rounds with one pass and 53 with five: clients with different"
        " digits walk in different directions, and most of a longer walk cancels in the average.",
        lessons=("04", "03"),
    ),
    Question(
        key="average",
        topic="averaging two networks",
        text="Two people train networks of the same small shape on the same images, each from"
        " random weights of their own. Both networks read 92 % of the test images. Now somebody"
        " averages the two, weight by weight. How much does the average read?",
        answers={
            "a": "About 92 %: each of its weights lies between those of two good networks.",
            "b": "About 95 %: each has learned something that the other one does not know.",
            "c": "About 88 %: an average blurs a little of what each of them has learned.",
            "d": "About 50 %: the same place in the two networks has learned different things.",
        },
        right="d",
        why="In lesson 04 such an average reads 46 % (34 to 55): averaging works when everybody"
        " starts a round from the same weights, and does not go too far.",
        lessons=("04",),
    ),
    Question(
        key="bytes",
        topic="bytes on the line",
        text="A phone has 600 small images of 28 × 28 pixels, and takes part in 20 rounds with a"
        " model of some 200,000 weights. Compare the bytes that it sends in these rounds with"
        " those of sending all its images once, with no federation.",
        answers={
            "a": "More: already one trained model is larger than all of this phone's images.",
            "b": "Fewer: what was learned from images is smaller than the images themselves.",
            "c": "Fewer at first: only after some hundred rounds do the models add up to more.",
            "d": "As many: what is in the images must come over the line one way or another.",
        },
        right="a",
        why="In lesson 10 one update is 797,000 bytes, as much as 1,016 such images, and it is sent"
        " in each round: a federation decides who sees the images, it does not save bytes.",
        lessons=("10", "01"),
    ),
)
