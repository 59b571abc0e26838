"""Builds the data of the small model: openly licensed emoji in several artistic styles, captioned by name and
style.

`python -m vd_core.training.emoji OUT_DIR` fetches the picture packages with npm (MIT and Apache licences, see
NOTICE), renders every emoji of `NAMES` in every style at 64x64 on white, and writes OUT_DIR/pictures.webp and
OUT_DIR/pictures.json.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..pictures import from_pil
from .dataset import CaptionedPictures

SIZE = 64
HELD_OUT = 0.12  # share of the pictures
BLOCK = 128  # names that are split together

STYLES = {  # style word: npm package
    "noto": "@iconify-json/noto@1.2.9",
    "blob": "@iconify-json/noto-v1@1.2.5",
    "flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "line": "@iconify-json/fluent-emoji-high-contrast@1.2.6",
    "3d": "@lobehub/fluent-emoji-3d@1.1.0",
}

# What is drawn, name and character, the most iconic first: a smaller set is the head of this list.
NAMES = tuple(
    tuple(entry.rsplit(" ", 1))
    for entry in """
red apple 🍎, banana 🍌, strawberry 🍓, grapes 🍇, watermelon 🍉, pineapple 🍍, cherries 🍒,
lemon 🍋, peach 🍑, pear 🍐, tomato 🍅, carrot 🥕, corn 🌽, broccoli 🥦, mushroom 🍄, avocado 🥑,
pizza 🍕, hamburger 🍔, hot dog 🌭, taco 🌮, french fries 🍟, doughnut 🍩, cookie 🍪,
birthday cake 🎂, ice cream 🍦, lollipop 🍭, bread 🍞, croissant 🥐, cheese 🧀, egg 🥚, popcorn 🍿,
pancakes 🥞, hot drink ☕, beer 🍺, dog 🐶, cat 🐱, rabbit 🐰, fox 🦊, bear 🐻, panda 🐼, tiger 🐯,
lion 🦁, cow 🐮, pig 🐷, frog 🐸, monkey 🐵, chicken 🐔, penguin 🐧, bird 🐦, owl 🦉, unicorn 🦄,
bee 🐝, butterfly 🦋, snail 🐌, ladybug 🐞, snake 🐍, octopus 🐙, crab 🦀, fish 🐟, whale 🐳,
elephant 🐘, rose 🌹, tulip 🌷, sunflower 🌻, cactus 🌵, palm tree 🌴, evergreen tree 🌲,
four leaf clover 🍀, maple leaf 🍁, sun ☀️, crescent moon 🌙, star ⭐, rainbow 🌈, cloud ☁️,
snowflake ❄️, snowman ⛄, fire 🔥, water drop 💧, umbrella ☂️, lightning ⚡, volcano 🌋,
red heart ❤️, broken heart 💔, gem 💎, crown 👑, car 🚗, taxi 🚕, bus 🚌, fire engine 🚒,
bicycle 🚲, airplane ✈️, rocket 🚀, helicopter 🚁, sailboat ⛵, anchor ⚓, house 🏠, castle 🏰,
soccer ball ⚽, basketball 🏀, baseball ⚾, trophy 🏆, guitar 🎸, microphone 🎤, camera 📷,
television 📺, light bulb 💡, candle 🕯️, book 📕, scissors ✂️, key 🔑, lock 🔒, bell 🔔, balloon 🎈,
gift 🎁, christmas tree 🎄, pumpkin 🎃, ghost 👻, robot 🤖, alien 👽, skull 💀, smiling face 😀,
crying face 😭, cool face 😎, heart eyes 😍, shoe 👟, thumbs up 👍, bomb 💣, dice 🎲, bacon 🥓,
sushi 🍣, honey pot 🍯, wine 🍷, cocktail 🍸, tropical drink 🍹, mouse 🐭, koala 🐨, turtle 🐢,
tropical fish 🐠, dolphin 🐬, camel 🐫, wave 🌊, tractor 🚜, ship 🚢, tent ⛺, ferris wheel 🎡,
tennis 🎾, medal 🏅, trumpet 🎺, violin 🎻, drum 🥁, piano 🎹, telephone ☎️, laptop 💻, pencil ✏️,
hammer 🔨, clown 🤡, angry face 😡, sleeping face 😴, hat 🎩, glasses 👓, dress 👗, backpack 🎒,
eye 👁️, lips 👄, horse 🐎, wolf 🐺, gorilla 🦍, bat 🦇, shark 🦈, crocodile 🐊, lizard 🦎,
dragon 🐉, duck 🦆, eagle 🦅, dove 🕊️, turkey 🦃, rooster 🐓, chick 🐤, deer 🦌, ram 🐏, goat 🐐,
rhinoceros 🦏, hamster 🐹, squirrel 🐿️, paw prints 🐾, seashell 🐚, shrimp 🦐, squid 🦑,
caterpillar 🐛, ant 🐜, spider 🕷️, spider web 🕸️, scorpion 🦂, bouquet 💐, cherry blossom 🌸,
hibiscus 🌺, seedling 🌱, oak tree 🌳, melon 🍈, orange 🍊, kiwi 🥝, eggplant 🍆, potato 🥔,
chili pepper 🌶️, cucumber 🥒, peanuts 🥜, baguette 🥖, meat on bone 🍖, chicken leg 🍗, burrito 🌯,
fried egg 🍳, noodles 🍜, cake slice 🍰, chocolate 🍫, candy 🍬, baby bottle 🍼, milk 🥛,
champagne 🍾, spoon 🥄, knife 🔪, vase 🏺, globe 🌍, mountain 🏔️, desert island 🏝️, temple 🏛️,
factory 🏭, church ⛪, fountain ⛲, steam train 🚂, ambulance 🚑, police car 🚓, racing car 🏎️,
motorcycle 🏍️, scooter 🛵, fuel pump ⛽, traffic light 🚦, stop sign 🛑, canoe 🛶, satellite 🛰️,
hourglass ⌛, watch ⌚, alarm clock ⏰, full moon 🌕, thermometer 🌡️, tornado 🌪️, comet ☄️,
party popper 🎉, ribbon 🎀, ticket 🎫, volleyball 🏐, american football 🏈, bowling 🎳,
ping pong 🏓, boxing glove 🥊, ice skate ⛸️, eight ball 🎱, crystal ball 🔮, video game 🎮,
joystick 🕹️, artist palette 🎨, necktie 👔, shirt 👕, jeans 👖, kimono 👘, handbag 👜, high heel 👠,
boot 👢, graduation cap 🎓, lipstick 💄, ring 💍, megaphone 📣, headphones 🎧, radio 📻,
saxophone 🎷, mobile phone 📱, battery 🔋, electric plug 🔌, floppy disk 💾, movie camera 🎥,
magnifying glass 🔍, flashlight 🔦, red lantern 🏮, books 📚, money bag 💰, envelope ✉️, package 📦,
mailbox 📫, paintbrush 🖌️, briefcase 💼, calendar 📅, paperclip 📎, dagger 🗡️, bow and arrow 🏹,
shield 🛡️, wrench 🔧, gear ⚙️, microscope 🔬, telescope 🔭, syringe 💉, pill 💊, door 🚪, bed 🛏️,
couch 🛋️, toilet 🚽, shopping cart 🛒
""".strip()
    .replace("\n", " ")
    .split(", ")
)


def split(name: Tensor, style: Tensor, names: tuple[str, ...], styles: tuple[str, ...]) -> Tensor:
    """Choose the held-out pictures, bool [N]: by hash, at most one style per name, the styles in turn, names
    with four styles or more.

    Every BLOCK names are split on their own: a longer list holds out what a shorter one did, so that a model
    can go on to learn more names.
    """
    held_out = torch.zeros(len(name), dtype=torch.bool)
    for first in range(0, len(names), BLOCK):
        block = range(first, min(first + BLOCK, len(names)))
        wanted, turn = int(HELD_OUT * int(((name >= block.start) & (name < block.stop)).sum())), 0
        for number in sorted(block, key=lambda n: hashlib.sha256(names[n].encode()).hexdigest()):
            pictures = (name == number).nonzero()[:, 0]
            candidate = pictures[style[pictures] == turn % len(styles)]
            if turn < wanted and len(pictures) >= 4 and len(candidate):
                held_out[candidate] = True
                turn += 1
    return held_out


def fetch(package: str) -> dict[str, bytes]:
    """Fetch the files of one npm package: path -> content. Raises ValueError without npm, and with npm's
    words when it fails."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("The pictures come from npm packages: install Node.js and npm first.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            packed = subprocess.run(
                [npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=True
            )
        except subprocess.CalledProcessError as error:
            raise ValueError(
                f"npm could not fetch {package}: {' '.join(error.stderr.split())[:300]}."
            ) from None
        with tarfile.open(Path(folder, packed.stdout.split()[-1])) as archive:
            return {
                member.name.partition("/")[2]: file.read()
                for member in archive
                if member.isfile() and (file := archive.extractfile(member))
            }


def spell_code_points(character: str) -> list[str]:
    """Spell a character as packages do: hexadecimal code points, with and without the variation selector."""
    plain = [f"{ord(c):04x}" for c in character if c != "\ufe0f"]
    return ["-".join(plain), "-".join([*plain, "fe0f"])]


def fetch_slugs() -> dict[str, str]:
    """Fetch the names that Iconify gives the characters of `NAMES`: character -> name of its picture."""
    flat = json.loads(fetch(STYLES["flat"])["chars.json"])
    return {
        character: flat[code.lstrip("0")]
        for _, character in NAMES
        for code in spell_code_points(character)
        if code.lstrip("0") in flat
    }


def make_iconify_renderer(
    files: dict[str, bytes], slugs: dict[str, str]
) -> Callable[[str], Image.Image | None]:
    """Return a function character -> picture for an Iconify set; `slugs` names characters for sets without a
    character table."""
    try:
        import resvg_py
    except ImportError:
        raise ValueError(
            "Drawing the SVG pictures needs the Python package resvg-py: pip install resvg-py."
        ) from None
    icons, characters = json.loads(files["icons.json"]), json.loads(files.get("chars.json", b"{}"))

    def render(character: str) -> Image.Image | None:
        keys = [characters.get(code.lstrip("0")) for code in spell_code_points(character)] + [
            slugs.get(character)
        ]
        key = next((key for key in keys if key in icons["icons"]), None)
        if key is None:
            return None
        icon = icons["icons"][key]
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'color="black" viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">'
            f"{icon['body']}</svg>"
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=4 * SIZE, height=4 * SIZE)
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")

    return render


def make_webp_renderer(files: dict[str, bytes]) -> Callable[[str], Image.Image | None]:
    """Return a function character -> picture for a package of WebP files named by code points."""

    def render(character: str) -> Image.Image | None:
        data = next(
            (
                files[f"assets/{code}.webp"]
                for code in spell_code_points(character)
                if f"assets/{code}.webp" in files
            ),
            None,
        )
        return None if data is None else Image.open(io.BytesIO(data)).convert("RGBA")

    return render


def place_on_white(picture: Image.Image) -> Image.Image:
    """Crop to what is drawn, centre it in a square it fills to 92 %, flatten onto white, SIZE x SIZE."""
    picture = picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    side = round(max(picture.size) / 0.92)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def build(out: Path, count: int) -> None:
    """Fetch, render, split and write the pictures of the first `count` names. Raises ValueError when there
    are not so many."""
    if not 1 <= count <= len(NAMES):
        raise ValueError(f"There are 1 to {len(NAMES)} names to draw, not {count}.")
    entries = NAMES[:count]
    slugs = fetch_slugs()
    pictures: list[Image.Image] = []
    name: list[int] = []
    style: list[int] = []
    for number, (word, package) in enumerate(STYLES.items()):
        files = fetch(package)
        render = make_webp_renderer(files) if word == "3d" else make_iconify_renderer(files, slugs)
        drawn = {
            n: picture
            for n, (_, character) in enumerate(entries)
            if (picture := render(character)) is not None
        }
        missing = [entry[0] for n, entry in enumerate(entries) if n not in drawn]
        print(f"{word}: {len(drawn)} pictures" + (f", missing: {', '.join(missing)}" if missing else ""))
        pictures += [place_on_white(picture) for picture in drawn.values()]
        name += drawn
        style += [number] * len(drawn)
    names, styles = tuple(entry[0] for entry in entries), tuple(STYLES)
    images = (from_pil(pictures) * 255).round().to(torch.uint8).contiguous()
    numbers = torch.tensor(name), torch.tensor(style)
    held_out = split(*numbers, names, styles)
    CaptionedPictures(images, *numbers, held_out, names, styles).save(out)
    print(f"{len(name)} pictures of {len(names)} names, {int(held_out.sum())} held out -> {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--names", type=int, default=256, help="how many emoji names (default 256)")
    arguments = parser.parse_args()
    try:
        build(arguments.out, arguments.names)
    except ValueError as error:
        sys.exit(f"error: {error}")
