"""The fonts of the demo data: Debian packages under the SIL Open Font License, in four styles of seven.

`role`: "gallery" and "probe" fonts also draw the validation and test characters. No family is on both sides,
so that a probe never meets another weight of its own design.
"""

from __future__ import annotations

from dataclasses import dataclass

STYLES = ("gothic", "ming", "kai", "decorative")


@dataclass(frozen=True)
class Font:
    style: str
    family: str
    package: str
    file: str  # name inside the package
    face: int = 0  # index in a collection: 0 JP, 3 TC for Noto CJK
    role: str = "training"


FONTS = (
    Font("gothic", "Noto Sans CJK", "fonts-noto-cjk", "NotoSansCJK-Regular.ttc", 0, "gallery"),
    Font("gothic", "BIZ UDGothic", "fonts-morisawa-bizud-gothic", "BIZUDGothic-Regular.ttf", 0, "probe"),
    Font("gothic", "DotGothic16", "fonts-dotgothic16", "DotGothic16-Regular.ttf", 0, "probe"),
    Font("gothic", "M PLUS 1", "fonts-mplus", "Mplus1-Regular.otf"),
    Font("gothic", "Noto Sans CJK", "fonts-noto-cjk-extra", "NotoSansCJK-Black.ttc", 3),
    Font("gothic", "Noto Sans CJK", "fonts-noto-cjk-extra", "NotoSansCJK-Thin.ttc", 0),
    Font("gothic", "M PLUS 2", "fonts-mplus", "Mplus2-ExtraBold.otf"),
    Font("ming", "Noto Serif CJK", "fonts-noto-cjk", "NotoSerifCJK-Regular.ttc", 0, "gallery"),
    Font("ming", "BIZ UDMincho", "fonts-morisawa-bizud-mincho", "BIZUDMincho-Regular.ttf", 0, "probe"),
    Font("ming", "Hanazono Mincho", "fonts-hanazono", "HanaMinA.ttf", 0, "probe"),
    Font("ming", "Sawarabi Mincho", "fonts-sawarabi-mincho", "sawarabi-mincho-medium.ttf"),
    Font("ming", "Noto Serif CJK", "fonts-noto-cjk-extra", "NotoSerifCJK-Black.ttc", 0),
    Font("ming", "Noto Serif CJK", "fonts-noto-cjk-extra", "NotoSerifCJK-ExtraLight.ttc", 3),
    Font("ming", "Noto Serif CJK", "fonts-noto-cjk", "NotoSerifCJK-Bold.ttc", 3),
    Font("kai", "Klee One", "fonts-klee", "KleeOne-Regular.ttf", 0, "gallery"),
    Font("kai", "LXGW WenKai", "fonts-lxgw-wenkai", "LXGWWenKai-Regular.ttf", 0, "probe"),
    Font("kai", "YOzFontE", "fonts-yozvox-yozfont-edu", "YOzREF.ttf", 0, "probe"),
    Font("kai", "Klee One", "fonts-klee", "KleeOne-SemiBold.ttf"),
    Font("kai", "LXGW WenKai", "fonts-lxgw-wenkai", "LXGWWenKai-Bold.ttf"),
    Font("kai", "LXGW WenKai", "fonts-lxgw-wenkai", "LXGWWenKai-Light.ttf"),
    Font("kai", "YOzFont", "fonts-yozvox-yozfont-standard-kana", "YOzRSF.ttf"),
    Font("decorative", "Yusei Magic", "fonts-yusei-magic", "YuseiMagic-Regular.ttf", 0, "gallery"),
    Font("decorative", "Reggae One", "fonts-reggae", "ReggaeOne-Regular.ttf", 0, "probe"),
    Font("decorative", "Stick", "fonts-stick", "Stick-Regular.ttf", 0, "probe"),
    Font("decorative", "RocknRoll One", "fonts-rocknroll", "RocknRollOne-Regular.ttf", 0, "probe"),
    Font("decorative", "Rampart One", "fonts-rampart", "RampartOne-Regular.ttf", 0, "probe"),
    Font("decorative", "Seto", "fonts-seto", "setofont.ttf"),
    Font("decorative", "Train One", "fonts-train", "TrainOne-Regular.ttf"),
)
