"""The cache of compiled rules: no rule may go on in its old form after it was mended."""

from acmf_core.trading import compiled, gates, kernel, loop, sizing


def test_every_compiled_function_carries_the_stamp_of_the_whole_folder():
    stamps = {
        function._cache._impl.locator.get_source_stamp()
        for function in (gates.gate_mask, sizing.entry_quantity, kernel.decide_bar, loop.run)
    }
    assert stamps == {compiled.source_stamp()}


def test_the_stamp_changes_with_any_file(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    compiled.source_stamp.cache_clear()
    before = compiled.source_stamp(tmp_path)
    (tmp_path / "b.py").write_text("y = 2")
    compiled.source_stamp.cache_clear()
    assert compiled.source_stamp(tmp_path) != before


def test_without_a_folder_to_cache_in_a_rule_still_compiles(monkeypatch):
    def nowhere(_function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compiled, "_FolderCache", nowhere)
    assert compiled.compiled(lambda x: x + 1)(1) == 2
