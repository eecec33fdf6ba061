"""The three toy classification tasks: class maps, questions and the answers the models are trained to give.

The class token ids are those of the predecessor (8-ball 200-219, binary 300-301, ternary 400-402).
Several questions come in pairs that hold the same words in another order and have different answers
("Is the sun bigger than the moon?" / "Is the moon bigger than the sun?"): a conversion that loses the
positions cannot answer both. A few hold characters that a careless path would mangle (`<`, `&`, quotes, newline).

Each entry is (question, answer). `ID_QUESTIONS` are shipped as token ids rather than as text.
"""

EIGHT_BALL = [
    "It is certain",
    "It is decidedly so",
    "Without a doubt",
    "Yes definitely",
    "You may rely on it",
    "As I see it, yes",
    "Most likely",
    "Outlook good",
    "Yes",
    "Signs point to yes",
    "Reply hazy, try again",
    "Ask again later",
    "Better not tell you now",
    "Cannot predict now",
    "Concentrate and ask again",
    "Don't count on it",
    "My reply is no",
    "My sources say no",
    "Outlook not so good",
    "Very doubtful",
]

_8BALL_QUESTIONS = [
    ("Will it rain tomorrow?", "It is certain"),
    ("Should I learn to play the piano?", "It is decidedly so"),
    ("Is my dog happy to see me?", "Without a doubt"),
    ("Will the bread rise in time?", "Yes definitely"),
    ("Can I trust the old map?", "You may rely on it"),
    ("Does the garden need more water?", "As I see it, yes"),
    ("Will Anna beat Ben at chess?", "Most likely"),
    ("Will the harvest be good this year?", "Outlook good"),
    ("Is it time for tea?", "Yes"),
    ("Should we take the coast road?", "Signs point to yes"),
    ("Who will win the next race?", "Reply hazy, try again"),
    ("When does the last train leave?", "Ask again later"),
    ("What is in the locked drawer?", "Better not tell you now"),
    ("Will the coin land on heads?", "Cannot predict now"),
    ("Is this the right question to ask?", "Concentrate and ask again"),
    ("Will Ben beat Anna at chess?", "Don't count on it"),
    ("Should I send the letter tonight?", "My reply is no"),
    ("Is the shop open on Sunday?", "My sources say no"),
    ("Will the snow stay until spring?", "Outlook not so good"),
    ("Can a cat keep a secret?", "Very doubtful"),
    ("Will the sun come up again?", "It is certain"),
    ("Should we plant a tree before a wall?", "It is decidedly so"),
    ("Should we plant a wall before a tree?", "Very doubtful"),
    ("Is the kettle on?", "Without a doubt"),
    ("Will \"Plan B\" & patience pay off?", "Yes definitely"),
    ("Will the bridge hold the truck?", "You may rely on it"),
    ("Will the truck hold the bridge?", "My reply is no"),
    ("Is the new recipe worth a try?", "As I see it, yes"),
    ("Will my brother call me today?", "Most likely"),
    ("Will I call my brother today?", "Outlook not so good"),
    ("Are the stars on our side?", "Outlook good"),
    ("Shall I have one more slice of cake?", "Yes"),
    ("Is there a boat at the pier?", "Signs point to yes"),
    ("What did the owl say?", "Reply hazy, try again"),
    ("Is dinner ready yet?", "Ask again later"),
    ("Did someone hide my birthday present?", "Better not tell you now"),
    ("How many leaves will fall this week?", "Cannot predict now"),
    ("Are you listening to me?", "Concentrate and ask again"),
    ("Will the noise stop before noon?", "Don't count on it"),
    ("Does the moth know the way?", "My sources say no"),
]

_8BALL_IDS = [
    ("Will the letter reach the island?", "Signs point to yes"),
    ("Will the island reach the letter?", "My sources say no"),
]

_BINARY_QUESTIONS = [
    ("Is the sun bigger than the moon?", "YES"),
    ("Is the moon bigger than the sun?", "NO"),
    ("Is 3 < 5?", "YES"),
    ("Is 5 < 3?", "NO"),
    ("Does a week have seven days?", "YES"),
    ("Does a day have seven weeks?", "NO"),
    ("Does ice float on water?", "YES"),
    ("Can a stone float on water?", "NO"),
    ("Is a whale a mammal?", "YES"),
    ("Is a spider an insect?", "NO"),
    ("Did the fox eat the hen & not the hen the fox?", "YES"),
    ("Did the hen eat the fox & not the fox the hen?", "NO"),
    ("Does summer come after spring?", "YES"),
    ("Does spring come after summer?", "NO"),
    ("Is the word \"cat\" shorter than \"tiger\"?", "YES"),
    ("Is the word \"tiger\" shorter than \"cat\"?", "NO"),
    ("Should we run the tests before the release?", "YES"),
    ("Should we run the release before the tests?", "NO"),
    ("Do bees make honey?", "YES"),
    ("Do fish ride bicycles?", "NO"),
]

_BINARY_IDS = [
    ("Is a metre longer than a foot?", "YES"),
    ("Is a foot longer than a metre?", "NO"),
]

_TERNARY_QUESTIONS = [
    ("Does the sun rise in the east?", "YES"),
    ("Does the sun rise in the west?", "NO"),
    ("Will the sun shine here next month?", "UNCERTAIN"),
    ("Is ten more than two?", "YES"),
    ("Is two more than ten?", "NO"),
    ("Is my number more than ten?", "UNCERTAIN"),
    ("Do birds lay eggs?", "YES"),
    ("Do eggs lay birds?", "NO"),
    ("Do these birds fly south this week?", "UNCERTAIN"),
    ("Is steel harder than butter?", "YES"),
    ("Is butter harder than steel?", "NO"),
    ("Is the sealed box harder to lift?", "UNCERTAIN"),
    ("Does water boil when it is heated?", "YES"),
    ("Does fire feel cold to the touch?", "NO"),
    ("Does my neighbour like jazz?", "UNCERTAIN"),
    ("Is Paris in France?", "YES"),
    ("Is France in Paris?", "NO"),
    ("Is the traveller in Paris today?", "UNCERTAIN"),
    ("Did Monday come before Tuesday this week?", "YES"),
    ("Did Tuesday come before Monday this week?", "NO"),
    ("Did the parcel come before noon?", "UNCERTAIN"),
    ("Is \"no\" a word?", "YES"),
    ("Is a triangle made of four sides?", "NO"),
    ("Is this the last line?\nOr is there another?", "UNCERTAIN"),
    ("Can a fish swim?", "YES"),
    ("Can a rock swim?", "NO"),
    ("Can the new player swim?", "UNCERTAIN"),
    ("Is 1 < 2 & 2 < 4?", "YES"),
    ("Is 4 < 2 & 2 < 1?", "NO"),
    ("Is x < y & y < z?", "UNCERTAIN"),
]

_TERNARY_IDS = [
    ("Is the father older than his son?", "YES"),
    ("Is the son older than his father?", "NO"),
    ("Is the winner older than the loser?", "UNCERTAIN"),
]

TASKS = {
    "8ball": {
        "classes": [(name, 200 + i) for i, name in enumerate(EIGHT_BALL)],
        "questions": _8BALL_QUESTIONS,
        "id_questions": _8BALL_IDS,
        "attention": "causal",
        "seed": 20,
    },
    "binary": {
        "classes": [("YES", 300), ("NO", 301)],
        "questions": _BINARY_QUESTIONS,
        "id_questions": _BINARY_IDS,
        "attention": "bidirectional",
        "seed": 2,
    },
    "ternary": {
        "classes": [("YES", 400), ("NO", 401), ("UNCERTAIN", 402)],
        "questions": _TERNARY_QUESTIONS,
        "id_questions": _TERNARY_IDS,
        "attention": "causal",
        "seed": 3,
    },
}
