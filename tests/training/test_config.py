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
        ({"epochs": -1}, "epochs: -1, allowed is greater than or equal to 1"),
        ({"epochs": True}, "epochs: True, allowed is a valid integer"),
        ({"batch_size": "64"}, "batch_size: '64', allowed is a valid integer"),
        ({"loss__scale": 0}, "loss.scale: 0, allowed is greater than 0"),
        (
            {"loss__margin": "arcfase"},
            "loss.margin.name: 'arcfase', allowed are 'arcface', 'cosface', 'sphereface', 'combined', 'adaface', ",
        ),
        (
            {"loss__mining": {"name": "topk", "k": 128}},
            "loss.mining: TopK: k + skip must be <= 128, got k=128, skip=1",
        ),
        ({"loss__mining": "below"}, "loss.mining.guard: missing"),
        (
            {"loss__mining": {"guard": {"r": 1.0}}},
            "loss.mining.guard.name: missing, allowed are 'absolute', 'relative', 'ema'",
        ),
        (
            {"loss__mining": {"name": "topk", "guard": {"name": "ema", "q": 1, "r": 1}}},
            "loss.mining.guard.q: unknown key, allowed are name, r",
        ),
        ({"amp": "fp8"}, "amp: 'fp8', allowed is 'bf16' or 'fp16'"),
        ({"image__channels": 2}, "image.channels: 2, allowed is 1 or 3"),
        ({"augment__flip": 2.0}, "augment: flip is 2.0, allowed is [0, 1]"),
        ({"augment": 3}, "augment: 3, allowed is a mapping of keys to values"),
        (
            {"validation": {"fraction": 0.1, "baskets": {"v": "v"}}},
            "validation: allowed is either fraction or baskets, with pairs or without, or pairs alone",
        ),
        (
            {"baskets__a": {"path": "x", "share": 1}},
            "baskets.a.share: unknown key, allowed are path, image_column, ",
        ),
        ({"baskets": {}}, "baskets: {}, allowed is at least one entry"),
        ({"baskets": {"a": "x", 1: "y"}}, "baskets: the name 1 is no text, allowed is '1', in quotes"),
        (
            {"validation": {"pairs": {True: "x"}}},
            "validation.pairs: the name True is no text, allowed is 'True', in",
        ),
        ({"validation": {"pairs": {"a": 3}}}, "validation.pairs.a: 3, allowed is a path"),
        ({"image__size": "a"}, "image.size: 'a', allowed is a valid integer or a valid tuple"),
        (
            {"image__size": [1, 2, 3]},
            "image.size: [1, 2, 3], allowed is a valid integer or at most 2 entries",
        ),
        ({"log": {1: 2}}, "log.1: unknown key, allowed are names"),
        ({"validation": {"pairs": {}}}, "validation.pairs: {}, allowed is at least one entry"),
        ({"validation": {"fraction": 0.1, "fars": []}}, "validation.fars: [], allowed is at least one entry"),
        (
            {"validation": {"baskets": {"v": {"path": "v", "proportion": 1.0}}}},
            "validation.baskets.v.proportion: unknown key, allowed are path, image_column, identity_column",
        ),
        ({"device": "tpu"}, "device: 'tpu', allowed is cpu, cuda or cuda:N"),
        ({"backbone__factory": "nets"}, "backbone.factory: 'nets', allowed is module:callable or timm:NAME"),
        (
            {"baskets__a": {"path": "x", "proportion": 2.0}},
            "baskets.b.proportion is null, allowed is a number, since a has one",
        ),
        (
            {"amp": "fp16", "optimizer": {"name": "sgd", "head": {"fused": True}}},
            "optimizer.head.fused is true with amp: fp16, allowed with it are bf16 and null",
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
        ({"loss__subcenters": 17}, "loss.subcenters: 17, allowed is "),
        (
            {"loss__sample_rate": 0.5},
            "loss.sample_rate is 0.5, which gives sparse gradients: allowed with it are ",
        ),
        (
            {"optimizer": {"name": "adamw", "momentum": 0.9}},
            "optimizer.momentum: unknown key, allowed are name, lr, ",
        ),
    ],
)
def test_a_line_says_key_value_and_what_is_allowed(changes, line):
    (found,) = problems(**changes)
    assert found.startswith(line)


NAMES = [
    "fingerprints", "checkpoint", "int", "tuple", "tuple[int, int]", "str", "none", "constrained-int", "topk", "adamw",
    "[key]", "name", "path", "", "a.b", "x, allowed is y",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_basket_keeps_its_name_whatever_it_is(name):
    sources = {name: {"path": "x", "share": 1}, "other": {"path": 3}}
    assert problems(baskets=sources, validation={"baskets": sources, "pairs": {name: 3}}) == [
        f"baskets.{name}.share: unknown key, allowed are path, image_column, identity_column, proportion",
        "baskets.other.path: 3, allowed is a path",
        f"validation.baskets.{name}.share: unknown key, allowed are path, image_column, identity_column",
        "validation.baskets.other.path: 3, allowed is a path",
        f"validation.pairs.{name}: 3, allowed is a path",
    ]


@pytest.mark.parametrize("name", ["checkpoint", "print", "tint", "tuple", "int", "str", "topk", "sgd", "a.b"])
@pytest.mark.parametrize(
    ("section", "value", "allowed"),
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
def test_an_unknown_key_is_named_whatever_it_is(name, section, value, allowed):
    (found,) = problems(**{section: {**value, name: 1}})
    assert found.partition("; did you mean")[0] == f"{section}.{name}: unknown key, allowed are {allowed}"


def test_the_key_of_a_section_inside_a_margin():
    section = {"name": "interclass_filter", "threshold": 0.4, "margin": {"name": "cosface", "hint": 1}}
    (found,) = problems(loss__margin=section)
    assert found.startswith("loss.margin.margin.hint: unknown key, allowed are name, margin, boundary,")


def test_all_problems_at_once_and_a_guess():
    assert problems(optimiser={"lr": 1.0}, epochs=0, image__sise=3) == [
        "image.sise: unknown key, allowed are size, channels; did you mean 'size'?",
        "epochs: 0, allowed is greater than or equal to 1",
        "optimiser: unknown key, allowed are baskets, output, image, augment, backbone, loss, optimizer, schedule, "
        "epochs, batch_size, amp, clip, validation, log, checkpoint, parallel, device, workers, seed; "
        "did you mean 'optimizer'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1: no YAML: "),
        ("epochs: 1\nepochs: 2\n", "line 2: 'epochs' is given twice"),
        ("- 1\n", "allowed is a mapping of keys to values, got list"),
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
    with pytest.raises(ConfigError, match=r"line 2: the key \['a', 'b'\] is a list, allowed is a name"):
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


def test_a_key_twice_beside_a_merge(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n")
    with pytest.raises(ConfigError, match="line 5: 'y' is given twice"):
        load_config(file)
