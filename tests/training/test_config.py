"""The config: every part of the library reachable, defaults complete, and one line per problem."""

import copy
import inspect
from pathlib import Path

import pytest

import basket_softmax as bs
from basket_softmax.training import ConfigError, load_config, make_config, to_yaml
from basket_softmax.training.choices import GUARDS, MARGINS, RULES

SIMPLE = {"baskets": {"a": "data/a", "b": "data/b"}, "output": "out"}


def config(**changes):
    return make_config({**SIMPLE}, {key.replace("__", "."): value for key, value in changes.items()})


def problems(**changes):
    with pytest.raises(ConfigError) as caught:
        config(**changes)
    first, *rest = str(caught.value).split("\n  ")
    assert first == f"config: {len(rest)} problem{'' if len(rest) == 1 else 's'}"
    return rest


MARGIN_CLASSES = {
    bs.ArcFace, bs.CosFace, bs.SphereFace, bs.CombinedMargin,
    bs.AdaFace, bs.MagFace, bs.CurricularFace, bs.ASoftmax, bs.InterclassFilter,
}  # fmt: skip


def test_every_margin_rule_and_guard_of_the_library_has_a_name():
    """Whatever can be called like a margin and is exported is a choice; so is every rule and guard."""
    exported = [getattr(bs, name) for name in bs.__all__ if isinstance(getattr(bs, name), type)]
    called = {cls: getattr(cls, "forward", cls.__call__) for cls in exported}
    assert {
        cls for cls, call in called.items() if "cos_t" in inspect.signature(call).parameters
    } == MARGIN_CLASSES
    assert {cls for cls in exported if hasattr(cls, "op_arguments")} == {bs.All, bs.Own, bs.TopK, bs.Below}
    assert {
        type(config(loss__margin=example(name)).loss.margin.build()) for name in MARGINS
    } == MARGIN_CLASSES
    assert {type(section().build()) for section in (RULES["all"], RULES["own"], RULES["topk"])} == {
        bs.All, bs.Own, bs.TopK
    }  # fmt: skip
    assert set(GUARDS) == {"absolute", "relative", "ema"}
    assert set(RULES) == {"all", "own", "topk", "below"}


def example(name):
    return {"name": name, "threshold": 0.4} if name == "interclass_filter" else name


def test_a_margin_inside_a_margin():
    section = {"name": "interclass_filter", "threshold": 0.4, "margin": {"name": "cosface", "margin": 0.2}}
    assert config(loss__margin=section).loss.margin.build() == bs.InterclassFilter(0.4, bs.CosFace(0.2))
    assert config(loss__margin=example("interclass_filter")).loss.margin.build() == bs.InterclassFilter(0.4)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ("topk", bs.TopK()),
        ({"name": "topk", "k": 5, "skip": 0}, bs.TopK(5, 0)),
        (
            {"name": "topk", "guard": {"name": "relative", "d": 0.1}},
            bs.TopK(guard=bs.Relative(0.1)),
        ),
        ({"name": "below", "guard": {"name": "absolute", "t": 0.4}}, bs.Below(bs.Absolute(0.4))),
        ({"name": "below", "guard": {"name": "ema", "r": 1}}, bs.Below(bs.Ema(1.0))),
        ("own", bs.Own()),
        ("all", bs.All()),
    ],
)
def test_rules(value, want):
    assert config(loss__mining=value).loss.mining.build() == want


def test_margins_take_the_arguments_of_their_class():
    section = config(loss__margin={"name": "arcface", "margin": 0.3, "boundary": "easy"}).loss.margin
    assert section.build() == bs.ArcFace(0.3, boundary="easy")
    ada = config(loss__margin={"name": "adaface", "h": 0.5}).loss.margin.build()
    assert (ada.h, ada.margin) == (0.5, 0.4)


def test_the_whole_config_survives_yaml(tmp_path):
    first = config(
        loss__mining={"name": "below", "guard": {"name": "ema", "r": 0.5}},
        optimizer={"name": "adamw", "lr": 1e-5},
        image__size=[24, 32],
        validation={"fraction": 0.1},
    )
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(first))
    again = load_config(file)
    assert again == first
    assert again.image.height_width == (24, 32)
    assert again.optimizer.lr == 1e-5


def test_paths_of_a_file_are_relative_to_it_and_those_of_options_to_here(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "run.yaml"
    file.write_text(
        "baskets: {a: data/a, b: {path: ../b}}\noutput: out\n"
        "validation: {baskets: {v: data/v}}\nloss: {aliases: known.csv}\n"
    )
    monkeypatch.chdir(tmp_path)
    found = load_config(file, {"output": "elsewhere", ("baskets", "c.d"): "data/c"})
    sub = tmp_path / "sub"
    assert {name: source.path for name, source in found.baskets.items()} == {
        "a": sub / "data/a",
        "b": sub / "../b",
        "c.d": tmp_path / "data/c",
    }
    assert found.output == tmp_path / "elsewhere"
    assert found.validation.baskets["v"].path == sub / "data/v"
    assert found.loss.aliases == sub / "known.csv"


def test_numbers_as_people_write_them(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("baskets: {a: a}\noutput: o\noptimizer: {lr: 1e-3, weight_decay: 5e-4}\nclip: 1\n")
    found = load_config(file)
    assert (found.optimizer.lr, found.optimizer.weight_decay, found.clip) == (1e-3, 5e-4, 1.0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epochs": -1}, "epochs: expected a number greater than or equal to 1, got -1"),
        ({"epochs": True}, "epochs: expected an integer, got True"),
        ({"batch_size": "64"}, "batch_size: expected an integer, got '64'"),
        ({"loss__scale": 0}, "loss.scale: expected a number greater than 0, got 0"),
        (
            {"loss__margin": "arcfase"},
            "loss.margin.name: expected one of 'arcface', 'cosface', 'sphereface', 'combined', 'adaface', ",
        ),
        (
            {"loss__mining": {"name": "topk", "k": 128}},
            "loss.mining: TopK: k + skip: expected at most 128, got k=128 and skip=1",
        ),
        ({"loss__mining": "below"}, "loss.mining.guard: missing"),
        (
            {"loss__mining": {"guard": {"r": 1.0}}},
            "loss.mining.guard.name: missing, expected one of 'absolute', 'relative', 'ema'",
        ),
        (
            {"loss__mining": {"name": "topk", "guard": {"name": "ema", "q": 1, "r": 1}}},
            "loss.mining.guard.q: unknown key, expected one of name, r",
        ),
        ({"amp": "fp8"}, "amp: expected 'bf16' or 'fp16', got 'fp8'"),
        ({"image__channels": 2}, "image.channels: expected 1 or 3, got 2"),
        ({"augment__flip": 2.0}, "augment.flip: expected a number in [0, 1], got 2.0"),
        ({"augment": 3}, "augment: expected a mapping of keys to values, got 3"),
        (
            {"validation": {"fraction": 0.1, "baskets": {"v": "v"}}},
            "validation: expected either fraction or baskets, with pairs or without, or pairs alone, got fraction and "
            "baskets",
        ),
        (
            {"baskets__a": {"path": "x", "share": 1}},
            "baskets.a.share: unknown key, expected one of path, image_column, ",
        ),
        ({"baskets": {}}, "baskets: expected at least one entry, got {}"),
        ({"baskets": {"a": "x", 1: "y"}}, "baskets: expected names that are text, '1' in quotes, got 1"),
        (
            {"validation": {"pairs": {True: "x"}}},
            "validation.pairs: expected names that are text, 'True' in quotes, got True",
        ),
        ({"validation": {"pairs": {"a": 3}}}, "validation.pairs.a: expected a path, got 3"),
        ({"image__size": "a"}, "image.size: expected an integer or a list, got 'a'"),
        (
            {"image__size": [1, 2, 3]},
            "image.size: expected an integer or at most 2 entries, got [1, 2, 3]",
        ),
        ({"log": {1: 2}}, "log.1: unknown key, expected a name"),
        ({"validation": {"pairs": {}}}, "validation.pairs: expected at least one entry, got {}"),
        (
            {"validation": {"fraction": 0.1, "fars": []}},
            "validation.fars: expected at least one entry, got []",
        ),
        (
            {"validation": {"baskets": {"v": {"path": "v", "proportion": 1.0}}}},
            "validation.baskets.v.proportion: unknown key, expected one of path, image_column, identity_column",
        ),
        ({"device": "tpu"}, "device: expected cpu, cuda or cuda:N, got 'tpu'"),
        (
            {"backbone__factory": "nets"},
            "backbone.factory: expected module:callable or timm:NAME, got 'nets'",
        ),
        (
            {"baskets__a": {"path": "x", "proportion": 2.0}},
            "baskets.b.proportion: expected a number, since a has one, got null",
        ),
        (
            {"amp": "fp16", "optimizer": {"name": "sgd", "head": {"fused": True}}},
            "amp: expected bf16 or null with optimizer.head.fused: true, got fp16",
        ),
        (
            {"loss__margin": "asoftmax", "optimizer": {"name": "sgd", "head": {"fused": True}}},
            "optimizer.head.fused is true with loss.margin: asoftmax, ",
        ),
        (
            {"loss__margin": "curricularface", "loss__subcenters": 2},
            "loss.subcenters is 2 with loss.margin: curricularface, which changes the negatives: that works in one "
            "process, with one centre for each class and ",
        ),
        ({"loss__subcenters": 17}, "loss.subcenters: expected a number less than or equal to 16, got 17"),
        (
            {"loss__sample_rate": 0.5},
            "optimizer.head: expected fused: true, or sgd with momentum: 0 and weight_decay: 0 for the head, with "
            "loss.sample_rate: 0.5, whose gradient is sparse, got sgd with momentum: 0.9 and weight_decay: 0.0005; "
            "loss.sparse_grad: false makes it dense",
        ),
        (
            {"loss__sample_rate": 0.5, "optimizer": "adamw"},
            "optimizer.head: expected fused: true, or sgd with momentum: 0 and weight_decay: 0 for the head, with "
            "loss.sample_rate: 0.5, whose gradient is sparse, got adamw; loss.sparse_grad: false makes it dense",
        ),
        (
            {"loss__sparse_grad": False},
            "loss.sparse_grad: expected true with loss.sample_rate: 1, where it has no effect, got false",
        ),
        (
            {
                "loss": {"sample_rate": 0.5, "sparse_grad": False},
                "optimizer": {"name": "sgd", "head": {"fused": True}},
            },
            "loss.sparse_grad: expected true with optimizer.head.fused: true, where it has no effect, got false",
        ),
        ({"augment__flip": "a"}, "augment.flip: expected a number, got 'a'"),
        ({"augment": {"rotate": 200.0}}, "augment.rotate: expected a number in [0, 180], got 200.0"),
        ({"loss__margin": {"margin": 4.0}}, "loss.margin.margin: expected "),
        ({"loss__margin": {"name": "adaface", "h": -1.0}}, "loss.margin.h: expected "),
        ({"loss__margin": {"name": "magface", "l_margin": -1.0}}, "loss.margin.l_margin: expected "),
        ({"loss__margin": {"name": "magface", "lambda_g": -1.0}}, "loss.margin.lambda_g: expected "),
        ({"loss__margin": {"name": "combined", "m1": 0.0}}, "loss.margin.m1: expected "),
        ({"loss__margin": {"name": "arcface", "boundary": "soft"}}, "loss.margin.boundary: expected "),
        ({"loss__margin": {"name": "curricularface", "momentum": 2.0}}, "loss.margin.momentum: expected "),
        ({"loss__margin": {"name": "asoftmax", "annealing": -1}}, "loss.margin.annealing: expected "),
        (
            {"loss__margin": {"name": "interclass_filter", "threshold": -1.0}},
            "loss.margin.threshold: expected ",
        ),
        (
            {
                "loss__margin": {
                    "name": "interclass_filter",
                    "threshold": 0.4,
                    "margin": {"name": "arcface", "margin": 4.0},
                }
            },
            "loss.margin.margin.margin: expected ",
        ),
        ({"loss__mining": {"k": -1}}, "loss.mining.k: expected "),
        ({"loss__mining": {"guard": {"name": "ema", "r": -1.0}}}, "loss.mining.guard.r: expected "),
        ({"loss__linking": {"share": 0.1}}, "loss.linking.share: expected "),
        ({"loss__linking": {"exclude": 2.0}}, "loss.linking.exclude: expected "),
        ({"loss__linking": {"every": 0}}, "loss.linking.every: expected "),
        ({"loss__linking": {"momentum": 1.0}}, "loss.linking.momentum: expected "),
        ({"loss__linking": {"probability": 2.0}}, "loss.linking.probability: expected "),
        (
            {"optimizer": {"name": "adamw", "momentum": 0.9}},
            "optimizer.momentum: unknown key, expected one of name, lr, ",
        ),
    ],
)
def test_a_line_says_key_what_is_expected_and_what_came(changes, line):
    (found,) = problems(**changes)
    assert found.startswith(line)


NAMES = [
    "fingerprints", "checkpoint", "int", "tuple", "tuple[int, int]", "str", "none", "constrained-int", "topk", "adamw",
    "[key]", "name", "path", "", "a.b", "x: expected y, got z",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_basket_keeps_its_name_whatever_it_is(name):
    sources = {name: {"path": "x", "share": 1}, "other": {"path": 3}}
    shown = name or "''"
    assert problems(baskets=sources, validation={"baskets": sources, "pairs": {name: 3}}) == [
        f"baskets.{shown}.share: unknown key, expected one of path, image_column, identity_column, proportion",
        "baskets.other.path: expected a path, got 3",
        f"validation.baskets.{shown}.share: unknown key, expected one of path, image_column, identity_column",
        "validation.baskets.other.path: expected a path, got 3",
        f"validation.pairs.{shown}: expected a path, got 3",
    ]


@pytest.mark.parametrize("name", ["checkpoint", "print", "tint", "tuple", "int", "str", "topk", "sgd", "a.b"])
@pytest.mark.parametrize(
    ("section", "value", "known"),
    [
        ("image", {}, "size, channels"),
        ("backbone", {}, "factory, embedding_size, args"),
        ("loss.mining", {"name": "topk"}, "name, k, skip, guard"),
        ("loss.mining.guard", {"name": "ema", "r": 1.0}, "name, r"),
        ("loss.margin", {"name": "cosface"}, "name, margin, boundary, target_grad"),
        ("optimizer.head", {}, "fused, lr, momentum, weight_decay"),
        ("parallel", {}, "shard"),
    ],
)
def test_an_unknown_key_is_named_whatever_it_is(name, section, value, known):
    (found,) = problems(**{section: {**value, name: 1}})
    assert found.partition("; did you mean")[0] == f"{section}.{name}: unknown key, expected one of {known}"


def test_the_key_of_a_section_inside_a_margin():
    section = {"name": "interclass_filter", "threshold": 0.4, "margin": {"name": "cosface", "hint": 1}}
    (found,) = problems(loss__margin=section)
    assert found.startswith("loss.margin.margin.hint: unknown key, expected one of name, margin, boundary,")


def test_all_problems_at_once_and_a_guess():
    assert problems(optimiser={"lr": 1.0}, epochs=0, image__sise=3) == [
        "image.sise: unknown key, expected one of size, channels; did you mean 'size'?",
        "epochs: expected a number greater than or equal to 1, got 0",
        "optimiser: unknown key, expected one of baskets, output, image, augment, backbone, loss, optimizer, schedule, "
        "epochs, batch_size, amp, clip, validation, log, checkpoint, parallel, device, workers, seed; "
        "did you mean 'optimizer'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1: no YAML: "),
        ("epochs: 1\nepochs: 2\n", "line 2: 'epochs' is given twice"),
        ("- 1\n", "expected a mapping of keys to values, got list"),
    ],
)
def test_no_yaml(tmp_path: Path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_name_left_out_is_the_default():
    found = config(optimizer__lr=0.01, loss__margin__margin=0.3, loss__mining__k=5)
    assert (found.optimizer.name, found.optimizer.lr) == ("sgd", 0.01)
    assert found.loss.margin.build() == bs.ArcFace(0.3)
    assert found.loss.mining.build() == bs.TopK(5)


def test_missing_parts():
    with pytest.raises(ConfigError) as caught:
        make_config({})
    assert str(caught.value) == "config: 2 problems\n  baskets: missing\n  output: missing"


def test_a_file_that_is_not_utf8(tmp_path: Path):
    (tmp_path / "run.yaml").write_bytes("output: Läufe".encode("latin1"))
    with pytest.raises(ConfigError, match=r"run\.yaml: it is not UTF-8: invalid continuation byte at byte 9"):
        load_config(tmp_path / "run.yaml")


def test_a_key_that_is_a_list(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("output: out\n? [a, b]\n: 3\n")
    with pytest.raises(ConfigError, match=r"line 2: expected a name as the key, got \['a', 'b'\]"):
        load_config(tmp_path / "run.yaml")


def test_a_change_of_a_basket_in_its_short_form_keeps_the_path(tmp_path: Path):
    for change in ("baskets.a.proportion", ("baskets", "a", "proportion")):
        made = make_config(SIMPLE, {change: 2.0, "baskets.b.proportion": 1.0})
        assert made.baskets["a"].proportion == 2.0
        assert made.baskets["a"].path == Path.cwd() / "data/a"
    file = tmp_path / "run.yaml"
    file.write_text("baskets: {a: data/a}\noutput: out\nvalidation: {baskets: {h: data/h}}\n")
    made = load_config(
        file, {"baskets.a.identity_column": "who", "validation.baskets.h.identity_column": "who"}
    )
    assert made.baskets["a"].path == tmp_path / "data/a"
    assert made.validation.baskets["h"].path == tmp_path / "data/h"
    assert made.validation.baskets["h"].identity_column == "who"


def test_changes_leave_the_callers_values_alone():
    values = {"baskets": {"a": "data/a"}, "output": "out", "loss": {"scale": 16.0}}
    before = copy.deepcopy(values)
    assert make_config(values, {"loss.scale": 32.0, "baskets.a.proportion": 2.0}).loss.scale == 32.0
    assert values == before


def test_pair_files_are_relative_to_the_config(tmp_path: Path, monkeypatch):
    file = tmp_path / "sub" / "run.yaml"
    file.parent.mkdir()
    file.write_text("baskets: {a: data/a}\noutput: out\nvalidation: {pairs: {lfw: lfw.bin}}\n")
    monkeypatch.chdir(tmp_path)
    made = load_config(file, {"validation.pairs.cfp": "cfp.bin"})
    assert made.validation.pairs == {"lfw": tmp_path / "sub" / "lfw.bin", "cfp": tmp_path / "cfp.bin"}


def test_merge_keys_of_yaml(tmp_path: Path):
    """What the mapping itself says wins; a section may be merged before it is read, and merge others."""
    file = tmp_path / "run.yaml"
    file.write_text(
        "baskets:\n  a: &a {path: data/a, identity_column: who}\n  b: &b {<<: *a, path: data/b}\n"
        "  c: {<<: *b, identity_column: name, path: data/c}\n  d: {<<: [*b, *a], path: data/d}\n"
        "validation: {baskets: {v: &v {<<: *a, path: data/v}}}\noutput: out\n"
        "log: &deep {every_steps: 3}\ncheckpoint: {<<: *deep, keep: 1}\n"
    )
    found = load_config(file)
    assert {name: source.path.name for name, source in found.baskets.items()} == {c: c for c in "abcd"}
    assert [source.identity_column for source in found.baskets.values()] == ["who", "who", "name", "who"]
    assert found.validation.baskets["v"].path == tmp_path / "data/v"
    assert (found.checkpoint.every_steps, found.checkpoint.keep) == (3, 1)


def test_a_section_that_is_merged_before_it_is_read(tmp_path: Path):
    """`output`'s neighbour merges a section that itself merges one with the same key, further down than both."""
    file = tmp_path / "run.yaml"
    file.write_text(
        "loss: {mining: &one {name: topk, k: 3}, margin: arcface}\n"
        "validation: {baskets: {v: &v {path: v, image_column: x}, w: &w {<<: *v, path: w}}}\n"
        "baskets: {a: {<<: *w, path: a}}\noutput: out\n"
    )
    found = load_config(file)
    assert found.baskets["a"].image_column == found.validation.baskets["w"].image_column == "x"
    assert found.validation.baskets["w"].path == tmp_path / "w"


@pytest.mark.parametrize("key", ["", " ", ".", "..", ".epochs", "epochs.", "loss..scale", "loss. .scale"])
def test_a_change_with_an_empty_key_is_named_whole(key):
    with pytest.raises(ConfigError) as caught:
        make_config(SIMPLE, {key: 3})
    assert str(caught.value) == (
        f"config: {key!r}: expected the name of a key on both sides of each dot, got an empty one"
    )


@pytest.mark.parametrize("key", ["", " ", " epochs"])
def test_a_key_that_nobody_would_see_is_in_quotes(key):
    with pytest.raises(ConfigError) as caught:
        make_config({**SIMPLE, key: 3})
    assert f"\n  {key!r}: unknown key, expected one of baskets, output, " in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output.x": 3}, "output: expected a mapping of keys to values, since output.x is given, got 'out'"),
        (
            {"optimizer": 3, "optimizer.lr": 0.1},
            "optimizer: expected a mapping of keys to values, since optimizer.lr is given, got 3",
        ),
        (
            {"baskets": "x", "baskets.a.path": "y"},
            "baskets: expected a mapping of keys to values, since baskets.a.path is given, got 'x'",
        ),
    ],
)
def test_a_change_below_a_plain_value_is_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        make_config(SIMPLE, changes)
    assert str(caught.value) == f"config: {message}"


def test_a_key_twice_beside_a_merge(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n")
    with pytest.raises(ConfigError, match="line 5: 'y' is given twice"):
        load_config(file)
