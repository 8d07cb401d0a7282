"""The 28 faces of the glyph file: four styles of seven, in the order the demo relies on.

Position j of style t decides which basket a font feeds, so the order is part of the data. The first font of each style
is the gallery; `probe` marks the fonts that query it. No family is both gallery and probe: two weights of one family
are nearly the same picture and would turn a cross-font test into a same-font one. `face` is the index in a TrueType
collection: Noto CJK stores the Japanese, Korean, simplified and traditional forms of a character as faces 0, 1, 2, 3.
"""

from __future__ import annotations

from dataclasses import dataclass

STYLES = ("gothic", "ming", "kai", "decorative")
GALLERY, PROBE, TRAIN = "gallery", "probe", "train"


@dataclass(frozen=True)
class Font:
    """One face: Debian package, path below usr/share/fonts, index in the collection, family, style and role."""

    package: str
    path: str
    family: str
    style: str
    role: str
    face: int = 0
    partial: bool = False  # lacks many of the characters: never asked for in evaluation

    @property
    def name(self) -> str:
        """File name without its ending, with the face where a collection has several."""
        stem = self.path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        return f"{stem}-{'JP KR SC TC'.split()[self.face]}" if self.path.endswith(".ttc") else stem


def _noto(file: str, style: str, role: str, face: int, *, extra: bool = True) -> Font:
    family = "Noto Sans CJK" if "Sans" in file else "Noto Serif CJK"
    package = "fonts-noto-cjk-extra" if extra else "fonts-noto-cjk"
    return Font(package, f"opentype/noto/{file}.ttc", family, style, role, face)


_BIZ, _MPLUS, _YOZ = "fonts-morisawa-bizud-", "opentype/mplus/", "fonts-yozvox-yozfont-standard-kana"

FONTS: tuple[Font, ...] = (
    _noto("NotoSansCJK-Regular", "gothic", GALLERY, 0, extra=False),
    Font(_BIZ + "gothic", "truetype/bizud-gothic/BIZUDGothic-Regular.ttf", "BIZ UDGothic", "gothic", PROBE),
    Font("fonts-mplus", _MPLUS + "Mplus1-Light.otf", "M PLUS 1", "gothic", PROBE),
    Font("fonts-smiley-sans", "truetype/smiley-sans/SmileySans-Oblique.ttf", "Smiley Sans", "gothic", TRAIN, 0, True),
    Font("fonts-mplus", _MPLUS + "Mplus2-Black.otf", "M PLUS 2", "gothic", PROBE),
    _noto("NotoSansCJK-Black", "gothic", TRAIN, 3),
    _noto("NotoSansCJK-Thin", "gothic", TRAIN, 2),
    _noto("NotoSerifCJK-Regular", "ming", GALLERY, 0, extra=False),
    Font(_BIZ + "mincho", "truetype/bizud-mincho/BIZUDMincho-Regular.ttf", "BIZ UDMincho", "ming", PROBE),
    Font("fonts-hanazono", "truetype/hanazono/HanaMinA.ttf", "Hanazono Mincho", "ming", PROBE),
    Font("fonts-sawarabi-mincho", "truetype/sawarabi-mincho/sawarabi-mincho-medium.ttf", "Sawarabi Mincho", "ming", PROBE),
    _noto("NotoSerifCJK-Black", "ming", TRAIN, 3),
    _noto("NotoSerifCJK-ExtraLight", "ming", TRAIN, 2),
    _noto("NotoSerifCJK-SemiBold", "ming", TRAIN, 1),
    Font("fonts-klee", "truetype/klee/KleeOne-Regular.ttf", "Klee One", "kai", GALLERY),
    Font("fonts-lxgw-wenkai", "truetype/lxgw-wenkai/LXGWWenKai-Light.ttf", "LXGW WenKai", "kai", PROBE),
    Font(_YOZ, "truetype/yozvox-yozfont/YOzRS_.ttf", "YOzFont", "kai", PROBE),
    Font("fonts-lxgw-wenkai", "truetype/lxgw-wenkai/LXGWWenKai-Bold.ttf", "LXGW WenKai", "kai", TRAIN),
    Font("fonts-seto", "truetype/seto/setofont.ttf", "SetoFont", "kai", PROBE),
    Font(_YOZ, "truetype/yozvox-yozfont/YOzBS_.ttf", "YOzFont", "kai", TRAIN),
    Font("fonts-klee", "truetype/klee/KleeOne-SemiBold.ttf", "Klee One", "kai", TRAIN),
    Font("fonts-yusei-magic", "truetype/yusei-magic/YuseiMagic-Regular.ttf", "Yusei Magic", "decorative", GALLERY),
    Font("fonts-reggae", "truetype/reggae/ReggaeOne-Regular.ttf", "Reggae One", "decorative", PROBE),
    Font("fonts-stick", "truetype/stick/Stick-Regular.ttf", "Stick", "decorative", PROBE),
    Font("fonts-train", "truetype/train/TrainOne-Regular.ttf", "Train One", "decorative", TRAIN, 0, True),
    Font("fonts-dotgothic16", "truetype/dotgothic16/DotGothic16-Regular.ttf", "DotGothic16", "decorative", PROBE),
    Font("fonts-rampart", "truetype/rampart/RampartOne-Regular.ttf", "Rampart One", "decorative", TRAIN),
    Font("fonts-rocknroll", "truetype/rocknroll/RocknRollOne-Regular.ttf", "RocknRoll One", "decorative", TRAIN),
)
