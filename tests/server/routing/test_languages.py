"""Prompts of three languages, written for this test, find the language's expert where there is one."""

from pathlib import Path

import pytest

import router
from router.composition import Composition
from router.data.plain_prompts import plain_prompts
from router.errors import MappingError
from router.languages import Languages
from router.router import Router
from server.config.settings import Settings, SettingsError
from server.routing.catalog import compositions_of
from tests.server.conftest import Serving

PROMPTS = {
    "hu": """Mi a fővárosa Magyarországnak, és mikor alapították?
Írj egy rövid verset az őszi esőről!
Hogyan főzzek gulyást hat személyre?
Számold ki, mennyi a háromszög területe, ha az alapja 8 és a magassága 5!
Milyen jogaim vannak, ha a főbérlő felmondja a szerződést?
Miért kék az ég?
Javítsd ki ezt a Python függvényt, mert végtelen ciklusba kerül!
Mik a vashiány leggyakoribb tünetei?
Foglald össze három mondatban a mohácsi csata történetét!
Melyik vonattal jutok el Szegedre délután?
Fordítsd le ezt a levelet udvarias hangnemben!
Hány liter festék kell egy húsz négyzetméteres falhoz?
Segíts megírni egy önéletrajzot pályakezdő mérnökként!
Mi a különbség a vírus és a baktérium között?
Adj tanácsot, hogyan tanuljak hatékonyabban a vizsgára!
Tudnál ajánlani jó könyveket a középkorról?""",
    "ja": """日本の首都はどこですか。
秋の雨について短い詩を書いてください。
六人分のカレーの作り方を教えてください。
底辺が八、高さが五の三角形の面積を計算してください。
大家さんに退去を求められたとき、どんな権利がありますか。
空はなぜ青いのですか。
このPythonの関数が無限ループになるので直してください。
貧血のよくある症状は何ですか。
関ヶ原の戦いを三つの文でまとめてください。
午後に京都へ行くにはどの電車に乗ればいいですか。
この手紙を丁寧な言葉に直してください。
二十平方メートルの壁にはペンキが何リットル必要ですか。
新卒の技術者として履歴書を書くのを手伝ってください。
ウイルスと細菌の違いは何ですか。
試験のためにもっと効率よく勉強する方法を教えてください。
中世についての良い本を勧めてください。""",
    "ar": """ما هي عاصمة مصر ومتى تأسست؟
اكتب قصيدة قصيرة عن مطر الخريف.
كيف أطبخ الكبسة لستة أشخاص؟
احسب مساحة مثلث قاعدته ثمانية وارتفاعه خمسة.
ما هي حقوقي إذا طلب مني المالك إخلاء الشقة؟
لماذا السماء زرقاء؟
أصلح هذه الدالة المكتوبة بلغة بايثون لأنها تدور بلا نهاية.
ما هي أعراض نقص الحديد الأكثر شيوعا؟
لخص تاريخ معركة حطين في ثلاث جمل.
أي قطار يوصلني إلى الإسكندرية بعد الظهر؟
أعد كتابة هذه الرسالة بأسلوب مهذب.
كم لترا من الطلاء أحتاج لجدار مساحته عشرون مترا مربعا؟
ساعدني في كتابة سيرة ذاتية لمهندس حديث التخرج.
ما الفرق بين الفيروس والبكتيريا؟
انصحني كيف أدرس للامتحان بشكل أفضل.
هل يمكنك أن تقترح كتبا جيدة عن العصور الوسطى؟""",
}
ASKED = [(code, prompt) for code, text in PROMPTS.items() for prompt in text.splitlines()]
OTHER = ["Bonjour, comment ça va ?", "Wie wird das Wetter morgen?", "こんにちは"]
"""Plain prompts that ship and are not English."""


def talk(*turns: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": turn} for turn in turns]


@pytest.fixture(scope="module")
def speaking() -> Composition:
    shipped = Router.load(Path(router.__file__).parent / "embedded")
    return Composition(shipped, languages=Languages({"hu": "magyar", "ja": "nihongo", "ar": "arabi"}))


def test_each_prompt_of_a_language_finds_its_expert(speaking: Composition) -> None:
    expert = {"hu": "magyar", "ja": "nihongo", "ar": "arabi"}
    assert len(ASKED) == 48
    for code, prompt in ASKED:
        choice = speaking.choose(talk(prompt))
        assert (choice.decision.expert, choice.by) == (expert[code], "language"), prompt
        assert choice.alone.expert in speaking.router.experts


def test_without_experts_of_languages_all_are_doubted_by_both_stages(speaking: Composition) -> None:
    prompts = [prompt for _, prompt in ASKED]
    assert speaking.router.decide_quickly(prompts) == [None] * len(prompts)
    assert {speaking.router.decide(prompt).category for prompt in prompts} == {"general"}


def test_english_and_languages_without_an_expert_go_by_the_map(speaking: Composition) -> None:
    english = [each.prompt for each in plain_prompts() if each.prompt not in OTHER]
    told = Languages({code: code for code in ("hu", "ja", "ar", "de", "fr", "es", "it", "ru", "zh", "pt")})
    assert [prompt for prompt in english if told.expert_of([prompt])] == []
    for prompt in ("Wie wird das Wetter morgen?", "Solve x^2 = 4.", "asdkjh qwe zxc", "", "\ud800", "12"):
        assert speaking.choose(talk(prompt)).by == "map"


def test_a_short_turn_is_in_the_language_of_those_before_it(speaking: Composition) -> None:
    hungarian = ASKED[0][1]
    assert speaking.choose(talk(hungarian, "OK 12")).decision.expert == "magyar"
    assert (
        speaking.choose(talk(hungarian, "Please write the same poem in English, with a rhyme.")).by == "map"
    )


def test_what_the_client_or_the_request_says_comes_first(speaking: Composition) -> None:
    hungarian = talk(ASKED[0][1])
    assert speaking.choose(hungarian, category="law").decision.expert == "law"
    assert speaking.choose(hungarian, eligible={"general", "law"}).decision.expert == "general"
    assert {"magyar", "nihongo", "arabi"} < {*speaking.experts}
    broken = speaking.choose(hungarian)
    instead = speaking.instead(broken, {"general"})
    assert instead is not None
    assert (instead.decision.expert, instead.by) == ("general", "fallback")


def test_a_language_is_told_off_the_event_loop(speaking: Composition) -> None:
    assert speaking.read_ahead([talk("What is 2+2?")]) == [False]


def test_a_code_that_is_none_is_refused() -> None:
    with pytest.raises(MappingError, match="no language 'hungarian'; there are ace, af, "):
        Languages({"hungarian": "magyar"})


def spoken(settings: Settings, languages: dict[str, str]) -> Settings:
    coe = settings.compositions["coe"].model_copy(update={"languages": languages})
    return settings.model_copy(update={"compositions": {"coe": coe}})


@pytest.mark.parametrize(
    ("languages", "said"),
    [({"hu": "magyar"}, "languages names magyar: no expert"), ({"xx": "law"}, "languages: no language 'xx'")],
)
def test_a_configuration_says_where_it_is_wrong(
    settings: Settings, languages: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=f"compositions.coe.{said}"):
        compositions_of(spoken(settings, languages))


async def test_the_gateway_answers_by_the_language(serving: Serving, settings: Settings) -> None:
    async with serving(spoken(settings, {"hu": "law"})) as gateway:
        answer = await gateway.post(model="coe", messages=talk(ASKED[0][1]))
        assert answer.status_code == 200
        assert (answer.headers["x-coe-expert"], answer.headers["x-coe-routed-by"]) == ("law", "language")
        other = await gateway.post(model="coe", messages=talk("Solve x^2 - 5x + 6 = 0 for x."))
        assert other.headers["x-coe-routed-by"] == "map"
