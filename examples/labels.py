"""Names of the few ImageNet classes that the demo's photos are taken for; no installed package ships the whole list."""

from __future__ import annotations

NAMES = {
    281: "tabby cat",
    282: "tiger cat",
    283: "Persian cat",
    284: "Siamese cat",
    285: "Egyptian cat",
    287: "lynx",
    504: "coffee mug",
    728: "plastic bag",
    904: "window screen",
    925: "consomme",
    960: "chocolate sauce",
    967: "espresso",
    968: "cup",
    969: "eggnog",
}


def label(number: int) -> str:
    """`285 Egyptian cat`, or `class 7` for a class without a name here."""
    return f"{number} {NAMES[number]}" if number in NAMES else f"class {number}"
