"""The cache of compiled kernels: none may go on in its old form after it was mended."""

from pathlib import Path

import pytest

from acmf_core import compiled, features, trading
from acmf_core.features import indicators, rolling
from acmf_core.trading import gates, kernel, loop, sizing

KERNELS = {
    trading: (gates.gate_mask, sizing.entry_quantity, kernel.decide_bar, loop.run),
    features: (rolling.mean, rolling.variance, indicators.rsi),
}


@pytest.mark.parametrize("room", KERNELS, ids=lambda room: room.__name__)
def test_every_compiled_function_carries_the_stamp_of_its_whole_folder(room):
    stamps = {function._cache._impl.locator.get_source_stamp() for function in KERNELS[room]}
    assert stamps == {compiled.source_stamp(Path(room.__file__).parent)}


def test_the_stamp_changes_with_any_file(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    before = compiled.source_stamp(tmp_path)
    (tmp_path / "b.py").write_text("y = 2")
    compiled.source_stamp.cache_clear()
    assert compiled.source_stamp(tmp_path) != before


def test_without_a_folder_to_cache_in_a_kernel_still_compiles(monkeypatch, tmp_path):
    def nowhere(_function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compiled, "_cache_of", lambda _folder: nowhere)
    assert compiled.compiler(tmp_path)(lambda x: x + 1)(1) == 2
