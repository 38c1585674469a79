"""The words of the grammar. A line of a table is an entry; what its columns mean stands above it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    chinese: str
    measure: str
    """Between a number and the noun, as in 三只猫, "three cats"."""
    singular: str
    plural: str
    kind: str
    """Which verbs and adjectives go with it."""


@dataclass(frozen=True)
class Verb:
    """One meaning of a verb; 看 has four, and the object says which."""

    chinese: str
    forms: dict[str, str]
    """"", "s", "past" and "ing" -> the English form."""
    particle: str
    """The "for" of "look for"."""
    kinds: frozenset[str]
    """Of its objects."""
    is_active: bool
    """Can be in progress, and over."""


@dataclass(frozen=True)
class Adjective:
    chinese: str
    english: str
    comparative: str
    kinds: frozenset[str]


@dataclass(frozen=True)
class Pronoun:
    chinese: str
    subject: str
    object: str
    possessive: str
    person: str
    """What verbs agree with: I, third or plural."""


# Chinese, measure word, singular, plural, kind. Drinks are counted in cups, and games not at all.
_NOUNS = """
狗 只 dog dogs animal
猫 只 cat cats animal
马 匹 horse horses animal
鸟 只 bird birds animal
鱼 条 fish fish animal
老师 位 teacher teachers person
学生 个 student students person
朋友 个 friend friends person
医生 位 doctor doctors person
孩子 个 child children person
苹果 个 apple apples food
鸡蛋 个 egg eggs food
蛋糕 块 cake cakes dish
土豆 个 potato potatoes food
三明治 个 sandwich sandwiches dish
水 杯 water water drink
茶 杯 tea tea drink
咖啡 杯 coffee coffee drink
牛奶 杯 milk milk drink
书 本 book books text
信 封 letter letters text
报纸 份 newspaper newspapers text
电影 部 movie movies film
比赛 场 match matches film
车 辆 car cars vehicle
卡车 辆 truck trucks vehicle
公共汽车 辆 bus buses vehicle
门 扇 door doors opening
盒子 个 box boxes opening
灯 盏 lamp lamps device
电脑 台 computer computers device
椅子 把 chair chairs thing
桌子 张 table tables thing
刀 把 knife knives thing
花 朵 flower flowers thing
照片 张 photo photos thing
雨伞 把 umbrella umbrellas thing
帽子 顶 hat hats thing
篮球 个 basketball basketball game
网球 个 tennis tennis game
"""

# Chinese, base, third person, past, progressive, particle or -, kinds of objects; ! = has no progressive.
_VERBS = """
喜欢 love loves loved loving - person,animal !
喜欢 like likes liked liking - food,dish,drink,text,film,vehicle,thing,game !
看 visit visits visited visiting - person
看 watch watches watched watching - film,animal
看 read reads read reading - text
看 look looks looked looking at thing,vehicle
开 drive drives drove driving - vehicle
开 open opens opened opening - opening
开 turn turns turned turning on device
想 miss misses missed missing - person,animal !
认识 know knows knew knowing - person !
要 want wants wanted wanting - food,dish,drink,text,thing,device !
吃 eat eats ate eating - food,dish
喝 drink drinks drank drinking - drink
买 buy buys bought buying - food,dish,drink,text,vehicle,device,thing,animal
卖 sell sells sold selling - food,dish,drink,text,vehicle,device,thing,animal
洗 wash washes washed washing - animal,vehicle,thing
画 draw draws drew drawing - person,animal,vehicle,thing,food,dish
写 write writes wrote writing - text
等 wait waits waited waiting for person,vehicle
找 look looks looked looking for person,animal,text,thing,opening,device
帮 help helps helped helping - person
教 teach teaches taught teaching - person
打 play plays played playing - game
做 make makes made making - dish
修 fix fixes fixed fixing - vehicle,device,opening
带 bring brings brought bringing - animal,food,dish,drink,text,thing
"""

# Chinese, English, comparative, kinds.
_ADJECTIVES = """
大 big bigger animal,vehicle,opening,device,thing,food,dish
小 small smaller animal,vehicle,opening,device,thing,food,dish
高 tall taller person
快 fast faster animal,vehicle,person
忙 busy busier person
老 old older person,animal
旧 old older text,vehicle,device,thing,opening
新 new newer text,vehicle,device,thing,opening,film
聪明 clever cleverer person,animal
漂亮 beautiful more_beautiful person,animal,thing
贵 expensive more_expensive food,dish,drink,text,vehicle,device,thing
便宜 cheap cheaper food,dish,drink,text,vehicle,device,thing
好 good better person,food,dish,drink,text,film,thing
有意思 interesting more_interesting text,film,person
"""

_PRONOUNS = """
我 I me my I
你 you you your plural
他 he him his third
她 she her her third
我们 we us our plural
他们 they them their plural
"""


def _rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def _verb(row: list[str]) -> Verb:
    chinese, base, third, past, progressive, particle, kinds = row[:7]
    forms = {"": base, "s": third, "past": past, "ing": progressive}
    return Verb(chinese, forms, particle.strip("-"), frozenset(kinds.split(",")), row[7:] != ["!"])


NOUNS = [Noun(*row) for row in _rows(_NOUNS)]
VERBS = [_verb(row) for row in _rows(_VERBS)]
ADJECTIVES = [
    Adjective(chinese, english, comparative.replace("_", " "), frozenset(kinds.split(",")))
    for chinese, english, comparative, kinds in _rows(_ADJECTIVES)
]
PRONOUNS = [Pronoun(*row) for row in _rows(_PRONOUNS)]

RELATIVES = {"妈妈": "mother", "爸爸": "father", "妹妹": "sister", "哥哥": "brother", "儿子": "son", "女儿": "daughter"}
COLORS = {"黑": "black", "白": "white", "红": "red"}
"""Before a noun alone, as other adjectives of one character."""

PLACES = {
    "家": ("at", "home"),
    "学校": ("at", "school"),
    "公园": ("in", "the park"),
    "商店": ("in", "the shop"),
    "火车站": ("at", "the station"),
}
SPOTS = {
    ("桌子", "上"): ("on", "the table"),
    ("椅子", "上"): ("on", "the chair"),
    ("盒子", "里"): ("in", "the box"),
    ("车", "里"): ("in", "the car"),
}

UNITS = ["_", "一", "二", "三", "四", "五", "六", "七", "八", "九"]
ONES = ["_", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

VERBS_WITH_ONE_MEANING = [verb for verb in VERBS if sum(verb.chinese == other.chinese for other in VERBS) == 1]
