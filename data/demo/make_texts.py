"""The words of the embedded corpora, written for the purpose: sentence templates, and what goes into their gaps.

Read by make_demo.py. A sentence is drawn from the bank of a class (IEMOCAP) or from one of two (TED: vivid or dry; MIT:
keen or flat); how often it comes from the right one is make_demo.py's business.
"""

import random
import re


def words(text: str) -> list[str]:
    """A list of words, written as one text."""
    return text.split()


GAPS = {
    "thing": "car|letter|key|phone|kitchen|dinner|ticket|report|house|window|garden|money|suitcase|photograph",
    "person": "my brother|your mother|my boss|the neighbour|our daughter|your sister|the landlord|my father|Anna",
    "place": "house|office|room|car|kitchen|garden|school",
    "day": "Monday|Tuesday|yesterday|last week|this morning|last night|on Friday",
    "times": "three times|five times|a hundred times|ten times",
    "city": "Boston|Chicago|Denver|Seattle|Austin|Portland",
    "drink": "coffee|tea|water|lemonade",
    "child": "a girl|a boy|an orphan|a young mother|a shepherd|a fisherman|an old nurse|a shy student",
    "country": "Kenya|Peru|India|Norway|Ghana|Vietnam|Chile|Morocco|Iceland|Nepal",
    "animal": "whale|elephant|octopus|sparrow|honeybee|wolf|turtle|gecko",
    "wonder": "the stars|the sea|a heartbeat|the forest|an old song|the desert|a river|the night sky",
    "term": "framework|paradigm|guideline|methodology|taxonomy|protocol|indicator|procedure|baseline|mechanism",
    "body": "committee|department|ministry|working group|consortium|agency|council|secretariat",
    "process": "implementation|standardisation|evaluation|coordination|harmonisation|compliance|procurement|allocation",
    "quantity": "four percent|the third quarter|section nine|table seven|the second appendix|phase two",
    "subject": "chemistry|robotics|economics|biology|architecture|physics|statistics|music",
    "company": "a hospital|a small startup|a research lab|a bank|a bicycle shop|a newspaper",
    "skill": "teamwork|writing clearly|planning|debugging|asking questions|public speaking",
}

EMOTION = {
    "ang": [
        "I have told you {times} already!",
        "Don't you dare blame me for the {thing}!",
        "You never listen to a word I say!",
        "Get out of my {place} right now!",
        "How could you lie to {person} about that?",
        "I am sick and tired of your excuses!",
        "This is completely unacceptable!",
        "You broke the {thing} and you don't even care!",
        "Stop shouting at me about the {thing}!",
        "I hate the way you talk to {person}!",
        "Who gave you the right to touch my {thing}?",
        "You ruined everything {day}, you know that?",
        "Shut up and give me back the {thing}!",
        "I am furious with {person}, and with you!",
    ],
    "hap": [
        "I am so happy to see {person} again!",
        "We are getting married in {city}!",
        "This is the best news I have heard!",
        "They loved it, they loved the whole thing!",
        "I got the job, can you believe it?",
        "What a wonderful surprise, thank you!",
        "We won, and {person} was laughing all day!",
        "I can't wait to show you the {thing}!",
        "It was such a beautiful party {day}!",
        "That is amazing, I am so proud of you!",
        "We laughed until we cried {day}!",
        "Let's celebrate, drinks are on me tonight!",
        "I am going to be an uncle, isn't that great?",
        "You look fantastic, I love the smile!",
    ],
    "sad": [
        "I miss {person} so much.",
        "She died in her sleep {day}.",
        "I don't know how to go on without him.",
        "I cried all night after the funeral.",
        "Nobody came to say goodbye to {person}.",
        "It hurts, and I feel so alone.",
        "I am sorry, I just can't stop crying.",
        "We lost the baby {day}.",
        "The {place} is so empty without her.",
        "I wish I had told {person} that I loved her.",
        "He is never coming home, is he?",
        "There is nothing left for me in {city}.",
        "I gave up hope a long time ago.",
        "It is my fault that {person} is gone.",
    ],
    "neu": [
        "The form is on the desk by the {thing}.",
        "I think the train to {city} leaves at nine.",
        "Could you fill in your address, please?",
        "We moved to {city} two years ago.",
        "He said he would call {person} {day}.",
        "You can leave the {thing} over there.",
        "I usually take the bus to the office.",
        "Would you like some {drink}?",
        "The meeting is in the other room.",
        "I need a copy of your licence and the form.",
        "It is about ten minutes from the {place}.",
        "I put the {thing} back where it was.",
        "So what time does the {place} open?",
        "Okay, and how long have you lived in {city}?",
    ],
    "fru": [
        "I have been waiting in this line for an hour.",
        "Why does this never work when I need it?",
        "They sent me to the wrong window again.",
        "I keep asking, and nobody can tell me.",
        "It is the third form I fill in for the same {thing}.",
        "I just want somebody to look for my {thing}.",
    ],
    "xxx": [
        "Well, I suppose that is one way to see it.",
        "You know what {person} would say to that.",
        "I thought it was about the {thing}, that is all.",
        "Maybe it is better this way, maybe not.",
        "And then he just looked at the {thing}.",
        "I don't know what to tell you.",
    ],
}

# What people say before they say something, whatever they feel.
OPENERS = ["Look", "Well", "Listen", "You know", "Oh", "So", "I mean", "Yes"]

TALK = {
    "vivid": [
        "I want to tell you about {child} I met in {country}.",
        "She laughed, and in that moment I understood what courage is.",
        "When I was seven, my grandmother showed me {wonder}.",
        "Imagine that you wake up one morning and hear {wonder}.",
        "It was the most beautiful thing I have ever seen.",
        "We danced in the street, and nobody wanted to go home.",
        "A {animal} can teach us more about love than any book.",
        "I was afraid, and I did it anyway.",
        "That day changed my life, and it can change yours.",
        "My daughter asked me why the {animal} sings, and I had no answer.",
        "He had nothing, and he shared it with everyone.",
        "There is a secret inside {wonder}, and I will show it to you.",
        "We built it together with our hands, out of mud and hope.",
        "People told us it was impossible, and we smiled.",
        "In {country} they have a word for the joy of coming home.",
        "I fell in love with {wonder}, and I never looked back.",
    ],
    "dry": [
        "The {term} was adopted by the {body} in accordance with {quantity}.",
        "As noted under {quantity}, the {process} remains subject to review.",
        "There are several aspects of {process} to be considered here.",
        "The {body} has since revised the {term} to some extent.",
        "In general terms, the {term} relates to the {process} of resources.",
        "It should be mentioned that {quantity} does not cover all cases.",
        "I will now go through the remaining items of the {term}.",
        "The {process} may or may not apply, depending on the {body}.",
        "To recapitulate, the {term} consists of eleven subordinate parts.",
        "Further {process} is required before the {body} can comment.",
        "The figures in {quantity} are broadly similar to the earlier ones.",
        "Opinions within the {body} differ with regard to the {term}.",
        "For reasons of {process}, I will skip the next forty slides.",
        "The {term} is not to be confused with the earlier {term}.",
        "This brings us back to the {process} of the {body}.",
        "A full list can be found in {quantity} of the {term}.",
    ],
}

TITLE = [
    "What the {animal} knows about us",
    "Why we need {wonder}",
    "A new look at {process}",
    "How {country} changed my mind",
    "The trouble with every {term}",
    "Lessons from {child}",
    "The future of {subject}",
    "Three things {subject} taught me",
]

QUESTIONS = [
    "So, tell me about yourself.",
    "Tell me about a time when you showed leadership.",
    "What is a weakness of yours?",
    "Why do you think that we should hire you?",
]

ANSWER = {
    "keen": [
        "I really love {subject}, I spend every free hour on it.",
        "Last summer I worked at {company}, and it was fantastic.",
        "I was so excited when our team won the competition.",
        "I am very passionate about {skill}, and I enjoy teaching it.",
        "We built a robot from nothing, and I learned so much.",
        "I can't wait to start on something new with you.",
        "I love working with people, it gives me energy.",
        "It was a great challenge, and I would do it again.",
    ],
    "flat": [
        "I am a junior, and my major is {subject}.",
        "I guess I did some work for {company}.",
        "Um, I am not sure, it was mostly {skill}.",
        "I took the required classes in {subject}.",
        "It was okay, we finished the project in the end.",
        "I suppose that I could be better at {skill}.",
        "There was a group, and I did my part.",
        "I don't really have an example for that.",
    ],
}

FIRST_NAMES = words(
    "Alma Bruno Carla David Elena Farid Greta Henry Ines Jonas Kira Liam Mona Nadia Oscar Petra Quinn Rosa Samir Tara "
    "Umar Vera Walter Xenia Yara Zeno Amos Bella Cyril Dora Emil Flora Gavin Hanna Igor Julia"
)
LAST_NAMES = words(
    "Abbott Berg Castillo Dahl Egede Fontaine Grimm Haddad Ito Jansen Kimura Lindqvist Moreau Ndiaye Okafor Pereira "
    "Quist Rinaldi Sato Thorne Ueda Varga Weiss Xavier Yilmaz Zeller Ashby Bonnet Crane Duarte Ekman Farkas Gupta "
    "Holm Ivanov Joshi"
)
OCCUPATIONS = ["Writer", "Biologist", "Designer", "Engineer", "Teacher", "Economist", "Photographer", "Physician"]


def fill(template: str, rng: random.Random) -> str:
    """A template with each gap filled at random, and a capital at the start."""
    text = re.sub(r"\{(\w+)\}", lambda gap: rng.choice(GAPS[gap[1]].split("|")), template)
    return text[0].upper() + text[1:]


def opened(text: str, rng: random.Random) -> str:
    """The sentence, two times in three after a word that means nothing."""
    if rng.random() < 1 / 3:
        return text
    keeps_capital = text.startswith(("I ", "I'", "Anna"))
    return f"{rng.choice(OPENERS)}, {text if keeps_capital else text[0].lower() + text[1:]}"


class Bank:
    """Sentences of one kind in a shuffled order that comes back only when all were used."""

    def __init__(self, templates: list[str], rng: random.Random):
        self._templates, self._rng, self._left = templates, rng, []

    def sentence(self) -> str:
        if not self._left:
            self._left = self._rng.sample(self._templates, len(self._templates))
        return fill(self._left.pop(), self._rng)
