"""Discovery, with real distributions on the path and real files: who offers what, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from biasbench.errors import PluginError, UsageError
from biasbench.hookspecs import Entry
from biasbench.plugins import KINDS, Offer, Origin, Registry, load_plugins

GOOD = """
    import biasbench

    class Fast:
        '''A fast one.

        With more text.
        '''
        name = "fast"

    @biasbench.hookimpl
    def biasbench_methods():
        return [Fast, biasbench.Entry("faster", f"{__name__}:Fast", "the same", {"speed": 2})]
"""
HOOK = "import biasbench\n@biasbench.hookimpl\ndef "


@pytest.fixture(autouse=True)
def _forget_modules():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("biasbench_plugin_", "aa", "bb", "cc")):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution on the path: a module and its metadata, as an installer would."""

    def put(module, source, *, dist=None, version="1.0", entry=None, metadata=True):
        dist = dist or module
        site = tmp_path / f"site-{dist}"
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        if source is not None:
            (site / f"{module}.py").write_text(textwrap.dedent(source))
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[biasbench]\n{entry or f'{module} = {module}'}\n")
        monkeypatch.syspath_prepend(site)

    return put


def write(tmp_path, source, name="mine.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(source))
    return path


# ------------------------------------------------------------------ what is found
def test_built_ins_come_through_the_same_door():
    plugins = load_plugins()
    builtin = next(o for o in plugins.origins if o.plugin == "builtin")
    assert builtin.module == "biasbench.builtin"
    assert builtin.distribution.startswith("biasbench ")
    assert load_plugins(entry_points=False).origins == ()
    assert {"original", "adv", "adv-conv5", "alpha-{ratio}"} <= set(plugins.methods.offers)


def test_every_built_in_class_can_be_loaded_and_answers_to_its_name():
    pytest.importorskip("torch")
    plugins = load_plugins()
    for offer in plugins.methods:
        assert plugins.methods.find(offer.load().name).load() is offer.load()


def test_a_distribution(install):
    install("aaplugin", GOOD, dist="aa-plugin", version="2.3")
    plugins = load_plugins()
    offer = plugins.methods.find("fast")
    assert offer.origin == Origin("aaplugin", "aa-plugin 2.3", "aaplugin")
    assert offer.entry == Entry("fast", "aaplugin:Fast", "A fast one.")
    assert plugins.methods.find("faster").entry.options == {"speed": 2}
    assert plugins.methods.find("faster").load() is offer.load()
    assert plugins.broken == ()


def test_a_single_file(tmp_path):
    path = write(tmp_path, GOOD)
    plugins = load_plugins([path], entry_points=False)
    offer = plugins.methods.find("fast")
    assert offer.load().name == "fast"
    assert offer.origin.distribution == str(path)
    assert plugins.files == (str(path),)


def test_a_file_runs_as_it_is_now_whatever_bytecode_python_kept_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = write(tmp_path, GOOD)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    assert load_plugins([path], entry_points=False).methods.find("faster").entry.options == {"speed": 2}
    path.write_text(path.read_text().replace('{"speed": 2}', '{"speed": 3}'))
    os.utime(path, ns=times)
    assert load_plugins([path], entry_points=False).methods.find("faster").entry.options == {"speed": 3}


def test_listing_imports_no_torch_and_no_provider():
    code = (
        "import sys; from biasbench.plugins import load_plugins, KINDS; p = load_plugins()\n"
        "assert all(len(p.registry(k).offers) for k in KINDS)\n"
        "print([m for m in sys.modules if m in ('torch', 'biasbench.method') or m.startswith('biasbench.builtin.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ------------------------------------------------------------------ names
def test_unknown_names_say_what_is_near():
    registry = load_plugins().methods
    with pytest.raises(UsageError, match=r"unknown method 'adv-conv55'\. Did you mean 'adv-conv5'"):
        registry.find("adv-conv55")
    with pytest.raises(UsageError, match=r"Known: .*adv-conv4.*See 'biasbench list methods'"):
        registry.find("zzzzzz\x1b")
    with pytest.raises(UsageError, match="Known: none"):
        Registry("metrics").find("x")


@pytest.mark.parametrize(("name", "value"), [("alpha-1", 1.0), ("alpha-2.5", 2.5), ("alpha-0", 0.0)])
def test_numbers_in_names(name, value):
    offer = load_plugins().methods.find(name)
    assert offer.name == name
    assert offer.entry.options == {"ratio": value}


@pytest.mark.parametrize(
    "name", ["alpha-", "alpha--1", "alpha-1e3", "alpha-x", "alpha-{ratio}", "alpha-1-2", "alpha-1.", "alpha-nan"]
)
def test_what_is_no_number(name):
    with pytest.raises(UsageError, match="unknown method"):
        load_plugins().methods.find(name)


# ------------------------------------------------------------------ collisions
def test_two_distributions_with_one_name(install):
    install("aaplugin", GOOD, dist="aa-plugin")
    install("bbplugin", GOOD, dist="bb-plugin", version="7")
    with pytest.raises(PluginError, match="two plugins offer the method 'fast'") as caught:
        load_plugins()
    for part in ("aaplugin:Fast", "aa-plugin 1.0", "bbplugin:Fast", "bb-plugin 7"):
        assert part in str(caught.value)


def test_a_name_of_ours(tmp_path):
    path = write(tmp_path, GOOD.replace('"fast"', '"adv-conv5"'))
    with pytest.raises(PluginError, match="two plugins offer the method 'adv-conv5'") as caught:
        load_plugins([path])
    assert "biasbench.builtin.methods.adversary:Adversary" in str(caught.value)
    assert str(path) in str(caught.value)


def test_one_name_in_two_kinds_is_fine(tmp_path):
    path = write(tmp_path, GOOD.replace("def biasbench_methods", "def biasbench_metrics"))
    other = write(tmp_path, GOOD, "other.py")
    plugins = load_plugins([path, other], entry_points=False)
    assert plugins.metrics.find("fast").origin != plugins.methods.find("fast").origin


def test_one_file_given_twice(tmp_path):
    path = write(tmp_path, GOOD)
    with pytest.raises(PluginError, match="registered twice"):
        load_plugins([path, path], entry_points=False)


# ------------------------------------------------------------------ misused hooks
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("biasbench_method(): return []", r"no such hook 'biasbench_method'.*'biasbench_methods'"),
        ("anything(): return []", r"no such hook 'anything'\. The hooks are biasbench_datasets"),
        ("biasbench_methods(registry): return []", r"a hook is misused: .*registry"),
        ("biasbench_methods(): return ['fast']", r"biasbench_methods returned 'fast', not an Entry"),
        ("biasbench_methods(): return [dict]", r"returned <class 'dict'>, not an Entry"),
    ],
)
def test_misused_hooks_are_errors(tmp_path, install, source, problem):
    path = write(tmp_path, HOOK + source)
    with pytest.raises(PluginError, match=problem) as caught:
        load_plugins([path], entry_points=False)
    assert "mine.py" in str(caught.value)
    install("aaplugin", HOOK + source, dist="aa-plugin")
    with pytest.raises(PluginError, match=problem) as caught:
        load_plugins()
    assert "plugin aaplugin (aa-plugin 1.0)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unmarked_function_is_no_hook(tmp_path):
    path = write(tmp_path, "def biasbench_methods(): return ['never called']")
    assert load_plugins([path], entry_points=False).methods.offers == {}


def test_objects_that_answer_to_anything_are_no_hooks(tmp_path):
    objects = """
    class Proxy:
        def __getattr__(self, name):
            raise RuntimeError("not now")

    class Yes:
        def __getattr__(self, name):
            return {"optionalhook": True}

    proxy, yes = Proxy(), Yes()
    """
    assert load_plugins([write(tmp_path, GOOD + objects)], entry_points=False).methods.find("fast")


# ------------------------------------------------------------------ broken plugins
BROKEN = [
    ("raise RuntimeError('first line\\nsecond\\x1b')", "RuntimeError: first line"),
    ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    ("def broken(:", "SyntaxError: "),
    ("import sys; sys.exit('bye')", "SystemExit: bye"),
    (HOOK + "biasbench_methods(): raise KeyError('k')", "biasbench_methods: KeyError: 'k'"),
    (HOOK + "biasbench_methods(): raise SystemExit(3)", "biasbench_methods: SystemExit: 3"),
    (HOOK + "biasbench_methods(): pass", "biasbench_methods: TypeError: "),
]


@pytest.mark.parametrize(("source", "reason"), BROKEN)
def test_a_broken_distribution_is_remembered_and_stops_nobody(install, source, reason):
    install("aaplugin", source, dist="aa-plugin")
    install("bbplugin", GOOD)
    plugins = load_plugins()
    assert plugins.methods.find("fast")
    assert plugins.methods.find("original")
    (broken,) = plugins.broken
    assert (broken.plugin, broken.distribution) == ("aaplugin", "aa-plugin 1.0")
    assert reason in broken.reason
    with pytest.raises(UsageError) as caught:
        plugins.methods.find("theirs")
    assert "Plugin aaplugin (aa-plugin 1.0) failed to load: " in str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("source", "reason"), BROKEN[:4])
def test_a_broken_file_is_an_error(tmp_path, source, reason):
    path, before = write(tmp_path, source), set(sys.modules)
    with pytest.raises(PluginError, match="cannot be imported") as caught:
        load_plugins([path], entry_points=False)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert not [m for m in set(sys.modules) - before if m.startswith("biasbench_plugin_mine")]


def test_entry_points_that_lead_nowhere(install):
    install("aaplugin", "x = 1", dist="aa-plugin", entry="a = aaplugin:missing")
    install("bbplugin", None, dist="bb-plugin", entry="b = bbplugin")
    install("ccplugin", None, dist="cc-plugin", entry="c = !!!")
    assert sorted(b.plugin for b in load_plugins().broken) == ["a", "b", "c"]


def test_a_half_removed_distribution(install):
    install("aaplugin", "raise RuntimeError('gone')", dist="aa-plugin", metadata=False)
    (broken,) = load_plugins().broken
    assert broken.plugin == "aaplugin"


@pytest.mark.parametrize("name", ["absent.py", "", "folder"])
def test_files_that_are_none(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(PluginError, match="no such plugin file"):
        load_plugins([tmp_path / name], entry_points=False)


def test_a_file_that_is_no_python(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(PluginError, match="not a Python file"):
        load_plugins([tmp_path / "notes.txt"], entry_points=False)


# ------------------------------------------------------------------ loading late
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module_at_all:X", "ModuleNotFoundError"),
        ("json:Missing", "AttributeError"),
        ("json:dumps", "TypeError: dumps is not a class"),
        ("json", "AttributeError"),
    ],
)
def test_an_entry_whose_class_cannot_be_loaded(target, reason):
    offer = Offer(Entry("late", target), Origin("aaplugin", "aa-plugin 1.0", "aaplugin"))
    with pytest.raises(PluginError, match=reason) as caught:
        offer.load()
    assert "'late' cannot be loaded" in str(caught.value)
    assert "plugin aaplugin (aa-plugin 1.0)" in str(caught.value)


def test_a_class_whose_module_leaves_the_process(install):
    install("aalate", "import sys; sys.exit(1)", entry="x = json")
    offer = Offer(Entry("late", "aalate:X"), Origin("aaplugin", "aa-plugin 1.0", "aaplugin"))
    with pytest.raises(PluginError, match="SystemExit: 1"):
        offer.load()


def test_kinds():
    plugins = load_plugins(entry_points=False)
    assert [plugins.registry(k).kind for k in KINDS] == list(KINDS)
