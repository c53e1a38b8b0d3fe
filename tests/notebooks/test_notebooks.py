"""`acmf run` and the rules that every notebook is held to."""

import importlib.util
import json
import shutil
from pathlib import Path

import nbclient
import nbformat
import pandas as pd
import pytest

from acmf_cli.main import main

ROOT = Path(__file__).resolve().parents[2]
OURS = sorted((ROOT / "notebooks").glob("*.ipynb"))
pytestmark = [
    # pyzmq and ipykernel, none of it ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:zmq"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:papermill"),
]


@pytest.fixture(scope="module")
def rules():
    """notebooks/check.py, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("notebook_rules", ROOT / "notebooks" / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path, *code, question="# Why is it so?", parameters="seed = 7\nresult_path = ''"):
    """A tiny notebook: a question, a parameters cell, and the code."""
    cells = [nbformat.v4.new_markdown_cell(question)]
    cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += [nbformat.v4.new_code_cell(text) for text in code]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch, mlflow_template):
    """An empty working directory with a notebook and a ready MLflow database."""
    (tmp_path / "state").mkdir()
    shutil.copy(mlflow_template, tmp_path / "state" / "mlflow.db")
    write(
        tmp_path / "notebooks" / "07_tiny.ipynb",
        "import json\nfrom pathlib import Path",
        "Path(result_path).write_text(json.dumps({'seed': seed}))\nprint('a line', seed)",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path


def acmf(capfd, *arguments):
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    captured = capfd.readouterr()
    return left.value.code, captured.out, captured.err


def refused(capfd, *arguments):
    """The line a usage error leaves."""
    code, out, err = acmf(capfd, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


def test_our_notebooks_keep_the_rules(rules):
    assert OURS
    assert [fault for path in OURS for fault in rules.faults(path)] == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("def double(x):\n    return 2 * x", "defines a function, a class or a loop"),
        ("class Model:\n    pass", "defines a function, a class or a loop"),
        ("for bar in range(3):\n    print(bar)", "defines a function, a class or a loop"),
        ("\n".join(f"x{i} = {i}" for i in range(80)), "lines in 3 cells"),
    ],
)
def test_code_that_belongs_into_the_library_is_refused(rules, tmp_path, code, fault):
    found = rules.faults(write(tmp_path / "01_planted.ipynb", code))
    assert len(found) == 1
    assert fault in found[0]


def test_a_notebook_without_a_question_or_with_outputs_or_without_parameters_is_refused(rules, tmp_path):
    path = write(tmp_path / "01_planted.ipynb", "1 + 1", question="# Results")
    book = nbformat.read(path, 4)
    book.cells[1].metadata["tags"] = []
    book.cells[2].outputs = [nbformat.v4.new_output("stream", text="2")]
    nbformat.write(book, path)
    found = " ".join(rules.faults(path))
    assert "does not open with its question" in found
    assert "holds outputs" in found
    assert "0 cells tagged parameters" in found


def test_a_notebook_runs_by_number_and_leaves_page_result_and_an_mlflow_run(home, capfd):
    code, out, _ = acmf(capfd, "run", "07", "-p", "seed=11", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["result"] == {"seed": 11}
    assert "a line 11" in Path(told["html"]).read_text()
    assert nbformat.read(told["notebook"], 4).cells[-1].outputs[0].text == "a line 11\n"
    assert sorted(p.name for p in (home / "reports").iterdir()) == [
        "07_tiny.html",
        "07_tiny.ipynb",
        "07_tiny.result.json",
    ]
    assert told["mlflow_run"]


@pytest.mark.parametrize("name", ["07", "07_tiny", "notebooks/07_tiny.ipynb"])
def test_a_notebook_is_found_by_number_name_and_path(home, name):
    from acmf_cli.notebooks import find

    assert find(name) == Path("notebooks/07_tiny.ipynb")


def test_an_unknown_notebook_is_refused_with_the_known_ones(home, capfd):
    assert '"08"; known: 07_tiny' in refused(capfd, "run", "08")


def test_a_number_that_fits_two_notebooks_is_refused(home, capfd):
    write(home / "notebooks" / "07_other.ipynb")
    assert "fits 2 notebooks" in refused(capfd, "run", "07")


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("speed=3", "07_tiny has no parameter speed; known: result_path, seed"),
        ("seed", 'parameter "seed" is not key=value'),
        ("=7", 'parameter "=7" is not key=value'),
        ("seed=[1, 2]", "parameter seed is not a single value"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_runs(home, capfd, pair, said):
    assert said in refused(capfd, "run", "07", "-p", pair)
    assert not list((home / "reports").glob("*")) if (home / "reports").exists() else True


@pytest.mark.parametrize(
    ("error", "expected"),
    [("MissingBars('3 bars are missing', 'fill them')", 2), ("SafetyStop('limit hit')", 1)],
)
def test_a_failing_notebook_keeps_its_own_error_and_leaves_no_page(home, capfd, error, expected):
    name = error.partition("(")[0]
    write(home / "notebooks" / "09_fails.ipynb", f"from acmf_core.errors import {name}\nraise {error}")
    code, out, err = acmf(capfd, "run", "09", "--json")
    assert (code, out) == (expected, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("acmf: 09_fails failed in cell")
    assert "09_fails.failed.ipynb" in last
    assert [p.name for p in (home / "reports").iterdir()] == ["09_fails.failed.ipynb"]


def test_progress_bars_leave_no_trace_in_the_page(home):
    from acmf_cli.notebooks import execute

    source = write(
        home / "notebooks" / "06_bars.ipynb",
        "from acmf_cli.progress import ProgressBars\nwith ProgressBars() as bars:\n"
        "    [bars.report('stage', i, 500) for i in range(501)]\nprint('done')",
    )
    executed, page, _ = execute(source, home / "reports", {}, quiet=True)
    outputs = nbformat.read(executed, 4).cells[-1].outputs
    assert [out.output_type for out in outputs] == ["stream"]
    assert outputs[0].text == "done\n"
    assert "stage" not in page.read_text().split("done")[-1]


def test_the_quality_of_recorded_bars_is_told_with_pictures(home, real_data, capfd):
    sizes = {"end": "2020-12-05"}
    spot = real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet"
    code, out, _ = ran(capfd, "01_data_quality", spot, sizes)
    told = json.loads(out)
    assert code == 0
    assert told["result"]["missing_bars"] == 4
    assert (told["result"]["ok"], told["result"]["errors"]) == (False, 1)
    page = Path(told["html"]).read_text()
    assert page.count("<img") == 5
    assert 'alt="Calendar of BTCUSDT 15m: 4 bars missing, 0 stand-ins"' in page
    assert "4 bars missing (0.066" in page
    assert "acmf data pull --symbol BTCUSDT --from 2020-11-30 --to 2020-12-01" in page


@pytest.mark.slow
def test_the_ensemble_trains_on_recorded_bars_and_says_what_it_found(home, real_data, capfd):
    sizes = {"train_days": 100, "test_days": 14, "trials": 2, "bundle_path": "bundle"}
    code, out, _ = ran(capfd, "03_train_ensemble", cut(real_data, home, days=150), sizes)
    told = json.loads(out)
    assert code == 0
    assert 0.8 < told["result"]["log_loss"] < 1.2
    assert (home / "bundle" / "manifest.json").is_file()
    page = Path(told["html"]).read_text()
    assert page.count("<img") == 4
    assert 'alt="Encoder losses over' in page
    assert "tabular-only model (log-loss" in page


@pytest.mark.slow
def test_the_walk_forward_of_recorded_bars_ends_with_a_verdict(home, real_data, capfd):
    sizes = {"folds": 2, "train_days": 100, "test_days": 10, "holdout_days": 5, "trials": 2, "workers": 1}
    code, out, _ = ran(capfd, "05_walk_forward", cut(real_data, home, days=150), sizes)
    told = json.loads(out)
    assert code == 0
    assert told["result"]["checks"] == 11
    assert (home / "state" / "walk_forward" / "trials.jsonl").is_file()
    assert "The gate refuses it" in Path(told["html"]).read_text()


def ran(capfd, name, candles, parameters):
    pairs = [f"{key}={value}" for key, value in {"candles": candles, **parameters}.items()]
    notebook = str(ROOT / "notebooks" / f"{name}.ipynb")
    return acmf(capfd, "run", notebook, "--json", *(word for pair in pairs for word in ("-p", pair)))


def cut(folder, home, *, days):
    """The first days of the recorded bars, as a file of their own."""
    frame = pd.read_parquet(folder / "BTCUSDT_perp_15m_2023_2024.parquet")
    frame.iloc[: days * 96].to_parquet(home / "bars.parquet")
    return home / "bars.parquet"


def test_a_kernel_of_make_lab_works_in_the_projects_folder(tmp_path, monkeypatch):
    startup = ROOT / "notebooks" / "startup.py"
    assert f'PYTHONSTARTUP="$(CURDIR)/{startup.relative_to(ROOT)}"' in (ROOT / "Makefile").read_text()
    monkeypatch.setenv("PYTHONSTARTUP", str(startup))
    asked = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("from pathlib import Path; Path.cwd()")]
    )
    client = nbclient.NotebookClient(
        asked, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}, timeout=60
    )
    client.execute()
    assert str(ROOT) in asked.cells[0].outputs[0]["data"]["text/plain"]
