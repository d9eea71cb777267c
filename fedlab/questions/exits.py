"""The exit questions: one for each lesson, about its one idea, with a reply to every answer."""

from __future__ import annotations

from fedlab.questions.question import Question

EXITS = {
    "01": Question(
        key="exit 01",
        topic="who joins",
        text="Ten more clients want to join a federation of three. When does the common model gain"
        " most from them?",
        answers={
            "a": "If their computers are fast, and they stay to the end.",
            "b": "If they bring images that none of the three has had so far.",
            "c": "If they hold the same images as the three, so that all agree.",
            "d": "In any case: the more clients, the better is their average.",
        },
        right="b",
        why="Three clients with three different shards reached 95.5 %, with three times the same"
        " shard 93.9 % (question 2). What helps is what is different.",
        lessons=("01",),
        replies={
            "a": "Then a round is over sooner. But what the model learns, it learns from images.",
            "c": "Models that agree bring nothing new: with three times the same shard (question 2)"
            " three clients were hardly better than one alone.",
            "d": "Look at question 2 once more: three clients with the same shard were hardly"
            " better than one alone. What was missing?",
        },
    ),
    "02": Question(
        key="exit 02",
        topic="what a server believes",
        text="One of these updates is counted, and the server of this lesson cannot know better."
        " Which one?",
        answers={
            "a": "One in which a single weight is NaN, and all the others are right.",
            "b": "One that names Bob, and comes with the token that Alice was given.",
            "c": "A second one by Alice, in a round in which hers was counted already.",
            "d": "One that says it was trained on more images than it really was.",
        },
        right="d",
        why="The server checks what it can check. On how many images you have trained it has to"
        " believe, within a limit, and that number is your weight in the average.",
        lessons=("02",),
        replies={
            "a": "That is refused (400): one NaN would make the average NaN for everybody.",
            "b": "That is refused (403): the token says who is speaking, and it is not Bob.",
            "c": "That is refused (409): an update is counted once in a round.",
        },
    ),
    "03": Question(
        key="exit 03",
        topic="twice the clients",
        text="All clients' images look alike (IID). In every round 20 clients take part in place of"
        " 10. What happens to the rounds and the bytes until the model has 97 %?",
        answers={
            "a": "Half as many rounds, and as many bytes: twice the clients do twice the work.",
            "b": "Somewhat fewer rounds, and nearly twice the bytes: little noise was left.",
            "c": "More rounds, and far more bytes: twenty models agree less than ten do.",
            "d": "As many rounds, and half the bytes: each client has only half of the work.",
        },
        right="b",
        why="An average takes away the noise of single clients. From one to ten that saves most of"
        " the rounds, from ten to twenty about one in ten; but each client sends its own update.",
        lessons=("03",),
        replies={
            "a": "Twenty clients do not walk twice as far: each makes its own steps, and the"
            " average of the walks is about as long as one walk. Look at part 4.",
            "c": "Where images look alike, so do the models: more of them make a steadier average.",
            "d": "Each client does as much as before, and sends a whole update. Look at part 5.",
        },
    ),
    "04": Question(
        key="exit 04",
        topic="why longer walks do not help",
        text="Clients have different digits. Each trains longer in every round, and FedAvg needs as"
        " many rounds as before. Why?",
        answers={
            "a": "They walk in different directions, and the average cancels most of it.",
            "b": "They see their own images too often, and begin to learn them by heart.",
            "c": "Those with most images count most, and they outvote all the others.",
            "d": "They start from different weights, and so their models cannot be averaged.",
        },
        right="a",
        why="That is client drift: of a walk towards one's own digits the average keeps a third"
        " (part 3). SCAFFOLD turns the walks, and then more training does save rounds (part 4).",
        lessons=("04",),
        replies={
            "b": "On their own digits they get better all the way, on new images too. It is the"
            " other clients' digits that they lose: look at the map with own digits.",
            "c": "Here all have about the same number of images. Unequal numbers alone did no harm"
            " (part 2).",
            "d": "All start each round from the same weights, those that the server sends. That is"
            " why averaging works at all (part 7).",
        },
    ),
    "05": Question(
        key="exit 05",
        topic="how to notice who is forgotten",
        text="With a deadline of two hours the model had 87 %, and the slow phones were forgotten."
        " Which number would have shown that?",
        answers={
            "a": "The accuracy on all test images, after one more week of the same rounds.",
            "b": "The number of rounds in the week, beside that of waiting for everybody.",
            "c": "The mean staleness of the updates that have become part of the model.",
            "d": "The part of the 7s that is read, beside the parts of the other digits.",
        },
        right="d",
        why="The accuracy hides whom it leaves out: 87 %, and not one 7. Somebody has to look at"
        " each group by itself, and has to know which groups there are.",
        lessons=("05",),
        replies={
            "a": "It would hardly move: no 7 comes in during the second week either.",
            "b": "That number looks best just where the slow ones are left out.",
            "c": "With a deadline no update is stale: those that come late are not in it at all.",
        },
    ),
    "06": Question(
        key="exit 06",
        topic="what hides an image",
        text="A server's owner looks at what she is sent, and does not cheat. What makes it hardest"
        " for her to read an image off an update?",
        answers={
            "a": "That the client goes through its images five times before it sends.",
            "b": "That the client trains in small batches, of ten images or fewer.",
            "c": "That many other images of the client are in the same update.",
            "d": "That the message is encrypted on its way to her server (HTTPS).",
        },
        right="c",
        why="The more images there are in one sum, the fewer neurons are alone with one of them: of"
        " 2 images both came back, of 100 one or none (part 3). A server that cheats gets most.",
        lessons=("06",),
        replies={
            "a": "A single image came back after five epochs, too: a sum of multiples of x is a"
            " multiple of x (part 3).",
            "b": "What counts is the sum over all batches. With B = 1 even more images came back"
            " (part 3).",
            "d": "That hides it from others on the network. She is the one to whom it is sent, and"
            " reads what arrives (part 6).",
        },
    ),
    "07": Question(
        key="exit 07",
        topic="what noise adds to masks",
        text="Updates are masked: the server reads only their sum. Why should clients clip and add"
        " noise as well?",
        answers={
            "a": "So that nobody on the network can read the messages on their way.",
            "b": "So that the sum does not show what one unusual client has changed.",
            "c": "So that a client who sends rubbish under its mask can be found.",
            "d": "So that a round can go on when some of the clients have left it.",
        },
        right="b",
        why="Masks hide who said something; the sum itself still told Carol's image (part 4). Clip"
        " and noise make it look nearly the same with her and without her (part 5).",
        lessons=("07",),
        replies={
            "a": "What travels is masked already, and HTTPS would hide it, too. Who reads the *sum*"
            " reads it after that.",
            "c": "It is the other way round: what hides an update from a curious server hides it"
            " from one that wants to check it (part 7).",
            "d": "That is what the shares of secrets are for (part 3).",
        },
    ),
    "08": Question(
        key="exit 08",
        topic="whom a defence throws out",
        text="Each client has two digits, and nobody attacks. The mean reaches 87 %, the median 76."
        " Where are the eleven points?",
        answers={
            "a": "With honest clients: they are unlike the others, and so they are left out.",
            "b": "In the noise: the median of many numbers is less steady than their mean.",
            "c": "In the time: the median needs some rounds to notice that nobody lies.",
            "d": "Nowhere: two digits for each client are too few to learn from, for both.",
        },
        right="a",
        why="A defence sees no images: it takes unlike for false. Where people's data differ, that"
        " may cost more than an attack (part 5).",
        lessons=("08",),
        replies={
            "b": "Where all clients had all digits, the median was as good as the mean: 93.8 % both"
            " (part 3). What is different now?",
            "c": "It notices nothing, in no round: it takes the middle of what it gets, each time.",
            "d": "The mean of the same updates reaches 87 %. Whom does the median not hear?",
        },
    ),
    "09": Question(
        key="exit 09",
        topic="when to use many machines",
        text="When is it worth it to move a federation from one computer to many machines?",
        answers={
            "a": "When there are more than a hundred clients, as in our first cells.",
            "b": "When the model should read more of the test images than it does.",
            "c": "When a client's training takes less time than a message needs.",
            "d": "When a client trains for minutes, or when its data may not move.",
        },
        right="d",
        why="A message costs seconds, so a client must have work for much longer. And where data"
        " may not leave a hospital, one machine is not too slow: it is not allowed.",
        lessons=("09",),
        replies={
            "a": "Two hundred clients ran in this computer, a few at a time (part 1).",
            "b": "The numbers were the same, digit by digit (part 3): it is the same computation.",
            "c": "It is the other way round: then the messages are most of the time (part 4).",
        },
    ),
    "10": Question(
        key="exit 10",
        topic="why one bit is enough",
        text="One bit a number, up or down by chance: what one update loses is 7.8 times as long as"
        " the change itself. After 20 rounds the model is nearly as good as with 32 bits. Why?",
        answers={
            "a": "Because most numbers of a model do not matter for what it reads.",
            "b": "Because what is lost by chance cancels in the average of many.",
            "c": "Because each client adds what was lost to its next update.",
            "d": "Because zlib brings back the bits that were left out before.",
        },
        right="b",
        why="Not how much is lost decides, but whether it cancels: the sign loses less of each"
        " update, always in the same way, and costs more (parts 3 and 4).",
        lessons=("10",),
        replies={
            "a": "Then it should not matter how a number becomes one bit. The sign is one bit too,"
            " and with two digits each it cost 15 points (part 4).",
            "c": "That is error feedback. One bit by chance had none here, and must not have it:"
            " its memory would grow without end (part 7).",
            "d": "zlib writes the same bits in fewer bytes, and loses and adds nothing.",
        },
    ),
    "11": Question(
        key="exit 11",
        topic="whom an average hears",
        text="20 phones have drawn 24 digits each, 3 laptops hold 5,000 images each. All send an"
        " update, and the average weighs them by images. How much do the phones change the model?",
        answers={
            "a": "Most of it: 20 of the 23 devices in the average are phones.",
            "b": "About half: what phones lack in images, they have in handwriting.",
            "c": "Hardly at all: together they are three per cent of the average.",
            "d": "As much as they are quick: later updates count less than early ones.",
        },
        right="c",
        why="480 of 15,480 images: the phones bring 0.2 points for their own digits, and 2.8 if all"
        " devices count alike (part 5). The weights are a decision, and somebody makes it.",
        lessons=("11",),
        replies={
            "a": "That would be so if each device counted alike: the class's setting weigh='alike'."
            " Here images are counted.",
            "b": "The average does not know what is on an image. It counts them: how many have the"
            " phones, how many the laptops?",
            "d": "In a round all updates are averaged at once, whoever came first.",
        },
    ),
}
"""Lesson -> its question."""
