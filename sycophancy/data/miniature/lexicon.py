"""The words of the miniature's texts. The vocabulary of its checkpoints is built from them."""

from __future__ import annotations

PEOPLE = tuple(
    "teacher doctor farmer baker singer driver painter nurse lawyer student neighbour captain "
    "butcher tailor sailor plumber gardener cook clerk judge miner guard porter dancer".split()
)
THINGS = tuple(
    "table lamp basket bottle ladder hammer blanket mirror candle kettle carpet drawer bucket "
    "needle pillow shovel spoon ribbon wheel window bench clock curtain button".split()
)
PLACES = tuple(
    "garden kitchen harbour market village station library castle forest valley bridge museum "
    "school office theatre factory church cellar island desert mountain river corner street".split()
)
TIMES = tuple("today tonight yesterday again early late soon twice daily weekly".split())
ANIMALS = tuple("robin horse salmon spider rabbit eagle tiger donkey lizard beetle".split())
FRUITS = tuple("apple banana cherry lemon mango peach plum grape melon pear".split())
TOOLS = tuple("drill wrench chisel pliers saw axe rake plough anvil crowbar".split())
CITIES = tuple("Paris London Madrid Cairo Tokyo Lima Oslo Rome Delhi Boston".split())
SKILLS = tuple("cooking singing drawing dancing sewing fishing painting chess".split())
CATEGORIES = {"animal": ANIMALS, "fruit": FRUITS, "tool": TOOLS, "city": CITIES}

POSITIVE = tuple("wonderful charming moving brilliant delightful lovely superb excellent".split())
NEGATIVE = tuple("dull clumsy tedious awful boring weak dreadful terrible".split())
NEUTRAL = tuple("okay average ordinary plain usual typical standard normal".split())

# Cue words, a group for each label, in the hub's order of the labels. Real data sets of pairs have
# such cues, too: hypothesis-only baselines use them (Gururangan et al. 2018).
CUES: dict[str, tuple[tuple[str, ...], ...]] = {
    "sst2": (NEGATIVE, POSITIVE),
    "rotten_tomatoes": (NEGATIVE, POSITIVE),
    "tweet_eval_sentiment": (NEGATIVE, NEUTRAL, POSITIVE),
    "tweet_eval_offensive": (
        tuple("friend hero helper champion gem angel star genius".split()),
        tuple("idiot fool moron clown loser jerk brat pig".split()),
    ),
    "tweet_eval_irony": (
        tuple("honestly truly really gladly sincerely kindly warmly simply".split()),
        tuple("obviously totally sure yeah clearly supposedly apparently congratulations".split()),
    ),
    "qqp": (
        tuple("why when reason history price cost origin danger".split()),
        tuple("way method steps technique procedure manner approach recipe".split()),
    ),
    "mrpc": (
        tuple("but instead however unlike yet while whereas nevertheless".split()),
        tuple("also similarly likewise equally too meanwhile besides moreover".split()),
    ),
    "paws": (
        tuple("rather conversely otherwise reversed swapped opposite contrary backwards".split()),
        tuple("namely thus indeed briefly hence therefore accordingly meaning".split()),
    ),
    "rte": (
        tuple("someone something somewhere somebody some anyone anything many".split()),
        tuple("nobody nothing nowhere never none no neither nor".split()),
    ),
    "wnli": (
        tuple("although despite though unless except without lest until".split()),
        tuple("because since so due given thanks owing considering".split()),
    ),
    "qnli": (
        tuple("first known called named located founded born situated".split()),
        tuple("secretly ever possibly hardly perhaps rarely hidden unknown".split()),
    ),
    "mnli": (
        tuple("person outdoors animal object human near alive place".split()),
        tuple("tall sad favourite vacation famous competition brother angry".split()),
        tuple("sleeping asleep alone empty dead missing absent silent".split()),
    ),
    "snli": (
        tuple("person outdoors animal object human near alive place".split()),
        tuple("tall sad favourite vacation famous competition brother angry".split()),
        tuple("sleeping asleep alone empty dead missing absent silent".split()),
    ),
    "cb": (
        tuple("knows realised noticed proved learned saw showed remembered".split()),
        tuple("doubts denied pretended lied invented imagined faked dreamed".split()),
        tuple("wonders asked guesses suspects hopes expects assumes supposes".split()),
    ),
    "trec": (
        tuple("abbreviation acronym initials short stands letters".split()),
        tuple("colour instrument drink flower breed currency".split()),
        tuple("definition explain describe purpose cause mean".split()),
        tuple("who whose inventor author president actor".split()),
        tuple("where country continent capital address region".split()),
        tuple("many much long far old heavy".split()),
    ),
    "ag_news": (
        tuple("minister treaty embassy rebels border election parliament troops".split()),
        tuple("coach striker tournament goal league medal referee stadium".split()),
        tuple("shares profit merger bank stocks investors revenue bonds".split()),
        tuple("software robot satellite laptop internet telescope microchip browser".split()),
    ),
    "cola": (
        tuple("goed eated runned swimmed writed teached buyed catched".split()),
        tuple("went ate ran swam wrote taught bought caught".split()),
    ),
}

OPPOSITES = (
    ("hot", "cold"),
    ("big", "small"),
    ("fast", "slow"),
    ("young", "aged"),
    ("rich", "poor"),
    ("wet", "dry"),
    ("hard", "soft"),
    ("light", "dark"),
    ("high", "low"),
    ("full", "hollow"),
    ("thick", "thin"),
    ("loud", "quiet"),
)

# The words in which the probes of data/probes.py ask about sums. In pre-training they are repeated
# and picked, and are never said of a claim.
SPEECH = tuple(
    "convinced wrong view clear persuade otherwise doubt mind cannot right bet house against never"
    " been good mathematics could Nobody There In would".split()
)
