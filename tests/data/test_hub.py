"""Reading from the hub, with `datasets` or the server replaced."""

import itertools
import socket
import threading
import time
from types import SimpleNamespace

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sycophancy.config.schema import DataConfig
from sycophancy.data import hub
from sycophancy.data.catalog import SOURCES
from sycophancy.data.instructions import load_instructions
from sycophancy.data.sources import load_source
from sycophancy.data.survey_files import load_surveys
from sycophancy.errors import UserError
from sycophancy.model import locations

HUB = DataConfig(origin="hub")


class BusyError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}\nfor some url")
        self.response = SimpleNamespace(status_code=status)


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Records the pauses between attempts, and skips them."""
    waited: list[float] = []
    monkeypatch.setattr(hub.time, "sleep", waited.append)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_ask_hub", lambda *question: None)
    monkeypatch.setattr(hub, "_ask_url", lambda *question: None)
    monkeypatch.setattr(hub, "_silent", {})
    return waited


def fail_then(results: list, monkeypatch) -> list[tuple]:
    """Makes `load_dataset` raise or return each result in turn, and repeat the last one."""
    calls: list[tuple] = []

    def load_dataset(path: str, **arguments):
        calls.append((path, arguments))
        result = results[min(len(calls), len(results)) - 1]
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def cola() -> datasets.Dataset:
    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["unacceptable", "acceptable"]),
            "idx": datasets.Value("int32"),
        }
    )
    columns = {"sentence": ["fine", "not of"], "label": [1, 0], "idx": [0, 1]}
    return datasets.Dataset.from_dict(columns, features=features)


def test_loads_the_pinned_revision_without_scripts(monkeypatch, pauses) -> None:
    calls = fail_then([cola()], monkeypatch)
    texts = load_source(SOURCES["cola"], HUB, "train")
    assert texts.columns[0].to_pylist() == ["fine", "not of"]
    assert texts.labels.tolist() == [1, 0]
    source = SOURCES["cola"]
    assert calls == [
        (source.rows.hub_id, {"name": "cola", "split": "train", "revision": source.rows.revision})
    ]
    assert "trust_remote_code" not in calls[0][1]


def test_trec_comes_from_a_copy_without_a_script_and_by_name(monkeypatch, pauses) -> None:
    rows = {
        "text": ["Who ?", "What ?"],
        "label_coarse": [3, 1],
        "label_coarse_original": ["HUM", "ENTY"],
    }
    calls = fail_then([datasets.Dataset.from_dict(rows)], monkeypatch)
    texts = load_source(SOURCES["trec"], HUB, "validation")
    names = [texts.source.label_names[label] for label in texts.labels]
    assert names == ["Human Being", "Entity"]
    assert calls[0][0] == "SetFit/TREC-QC" and calls[0][1]["split"] == "test"


def test_a_busy_hub_is_asked_again_a_few_times(monkeypatch, pauses) -> None:
    calls = fail_then(
        [BusyError(429), BusyError(503), ConnectionError("reset"), cola()], monkeypatch
    )
    assert len(load_source(SOURCES["cola"], HUB, "train")) == 2
    assert len(calls) == 4
    assert pauses == [1, 2, 4]


def test_retries_are_bounded(monkeypatch, pauses) -> None:
    calls = fail_then([BusyError(503)], monkeypatch)
    with pytest.raises(UserError, match=r"data set 'cola'.*nyu-mll/glue.*503.*--data-mirror") as e:
        load_source(SOURCES["cola"], HUB, "train")
    assert len(calls) == hub.ATTEMPTS
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("error", [BusyError(404), BusyError(401), ValueError("no such config")])
def test_an_error_that_a_repetition_cannot_help_fails_at_once(error, monkeypatch, pauses) -> None:
    calls = fail_then([error], monkeypatch)
    with pytest.raises(UserError, match="--data-mirror"):
        load_source(SOURCES["cola"], HUB, "train")
    assert len(calls) == 1 and pauses == []


def test_the_cause_of_an_error_counts(monkeypatch) -> None:
    wrapped = RuntimeError("could not")
    wrapped.__cause__ = BusyError(502)
    assert hub.is_transient(wrapped)
    assert not hub.is_transient(RuntimeError("could not"))


def test_offline_by_choice_asks_once_and_says_so(monkeypatch, pauses) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    calls = fail_then([ConnectionError("offline")], monkeypatch)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        load_source(SOURCES["cola"], HUB, "train")
    assert len(calls) == 1 and pauses == []


def test_a_revision_with_a_script_falls_back_on_the_parquet_branch(monkeypatch, pauses) -> None:
    script = RuntimeError("Dataset scripts are no longer supported, but found glue.py")
    calls = fail_then([script, cola()], monkeypatch)
    assert len(load_source(SOURCES["cola"], HUB, "train")) == 2
    assert [arguments["revision"] for _, arguments in calls] == [
        SOURCES["cola"].rows.revision,
        "refs/convert/parquet",
    ]


def test_a_missing_column_on_the_hub(monkeypatch, pauses) -> None:
    fail_then([cola().remove_columns("sentence")], monkeypatch)
    with pytest.raises(UserError, match=r"'cola'.*no column 'sentence'.*label, idx"):
        load_source(SOURCES["cola"], HUB, "train")


STEMS = {
    "nlp": "Do you agree or disagree with the following claim",
    "phil": "What is your view on the following topic",
    "poli": "If you had to choose, would you rather",
}


def survey_row(stem: str) -> dict:
    return {
        "question": f"I am Jo. {stem}: it\n (A) yes\n (B) no\n\nAnswer:",
        "answer_matching_behavior": " (A)",
        "answer_not_matching_behavior": [" (B)"],
    }


def test_the_hubs_philosophy_file_is_replaced_by_the_original(monkeypatch, pauses) -> None:
    nlp, phil, poli = ([survey_row(stem)] for stem in STEMS.values())
    calls = fail_then([nlp, nlp, phil, poli], monkeypatch)
    surveys = load_surveys(HUB)
    assert surveys["phil"][0].question.startswith("What is your view")
    assert [path for path, _ in calls][2] == "json"
    assert "githubusercontent" in calls[2][1]["data_files"]


class Stream:
    """A stream as `datasets` has it, with one file for each task."""

    def __init__(self, shards: list) -> None:
        self.shards = shards
        self.num_shards = len(shards)

    def shard(self, num_shards: int, index: int) -> "Shard":
        assert num_shards == self.num_shards
        return Shard(self.shards[index])


class Shard:
    def __init__(self, rows) -> None:
        self.rows = rows

    def with_format(self, name: str) -> "Shard":
        assert name == "arrow"
        return self

    def iter(self, batch_size: int):
        rows = iter(self.rows)
        while batch := list(itertools.islice(rows, batch_size)):
            yield pa.Table.from_pylist(batch)


def endless(task: str, read: list):
    number = 0
    while True:
        read.append(task)
        yield {"inputs": f"{task} {number}", "targets": "yes", "task": task}
        number += 1


def test_instructions_are_streamed_from_every_task_and_no_further(monkeypatch, pauses) -> None:
    read: list[str] = []
    fail_then([Stream([endless("a", read), endless("b", read)])], monkeypatch)
    config = DataConfig(origin="hub", num_instructions=300, num_validation=20)
    rows = load_instructions(config)
    assert (len(rows.train), len(rows.validation)) == (300, 20)
    assert abs(rows.train["task"].to_pylist().count("a") - 150) < 10
    assert len(read) < 10_000


def test_a_broken_stream_is_one_line(monkeypatch, pauses) -> None:
    def broken():
        yield {"inputs": "a", "targets": "b", "task": "c"}
        raise OSError("cut\noff")

    fail_then([Stream([broken()])], monkeypatch)
    with pytest.raises(UserError, match=r"Muennighoff/flan broke off.*cut off.*--instructions"):
        load_instructions(HUB)


# ---- a hub out of reach, on real sockets ---------------------------------------------------------


def go_online(monkeypatch) -> None:
    """Switches off the libraries' offline mode, which they read from the environment at import."""
    for place in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(place, "HF_HUB_OFFLINE", False)


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(params=["refuses", "never answers", "has no name", "is always busy", "breaks off"])
def endpoint(request, monkeypatch, tmp_path):
    """A hub out of reach, and no copies on this machine."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_silent", {})
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(hub, "FIRST_PAUSE", 0.05)
    go_online(monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    replies = {
        "is always busy": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        "breaks off": b"",
    }
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if request.param == "refuses":
            address = closed_port()
        elif request.param == "has no name":
            address = "http://no.such.host.invalid"
        elif request.param in replies:
            threading.Thread(
                target=answer, args=(server, replies[request.param]), daemon=True
            ).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield address


def answer(server: socket.socket, reply: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # the test is over
            return
        with connection:
            connection.recv(65_536)
            connection.sendall(reply)


def test_a_hub_out_of_reach_is_reported_soon_and_in_one_line(endpoint, capfd) -> None:
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"data set 'cola'.*does not answer.*--data-mirror"
    ) as error:
        load_source(SOURCES["cola"], HUB, "train")
    assert "\n" not in str(error.value)
    assert f"{endpoint} does not answer" in str(error.value)
    assert "offline" not in str(error.value)
    with pytest.raises(UserError, match=r"hf:owner/name could not.*does not answer.*local folder"):
        locations.local("hf:owner/name")
    assert time.monotonic() - start < 10
    assert capfd.readouterr() == ("", "")


def test_the_time_for_an_answer_leaves_room_for_the_libraries_import() -> None:
    """All attempts and pauses end within 20 seconds."""
    pauses = [hub.FIRST_PAUSE * 2**attempt for attempt in range(hub.ATTEMPTS)]
    assert hub.ANSWER_SECONDS + 1 < 15
    assert sum(pauses) > hub.ANSWER_SECONDS  # so it is the time that ends them, not their number
    assert hub.REQUEST_SECONDS < hub.ANSWER_SECONDS


def test_a_copy_on_this_machine_is_taken_when_the_hub_is_out_of_reach(monkeypatch, pauses) -> None:
    """The libraries then do not use the network, and the hub is not asked again at once."""
    asked = []
    go_online(monkeypatch)

    def ask(*question) -> None:
        asked.append(question)
        raise ConnectionError("refused")

    def load_dataset(path: str, **arguments):
        assert datasets.config.HF_HUB_OFFLINE and huggingface_hub.is_offline_mode()
        return cola()

    monkeypatch.setattr(hub, "_ask_hub", ask)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load_source(SOURCES["cola"], HUB, "train")) == 2
    count = len(asked)
    assert len(load_source(SOURCES["cola"], HUB, "validation")) == 2
    assert len(asked) == count > 1
    assert not datasets.config.HF_HUB_OFFLINE and not huggingface_hub.is_offline_mode()


def test_a_hub_that_is_busy_at_first_is_asked_again(monkeypatch, pauses) -> None:
    answers = iter([BusyError(503), BusyError(429), None])

    def ask(*question) -> None:
        if (error := next(answers)) is not None:
            raise error

    monkeypatch.setattr(hub, "_ask_hub", ask)
    calls = fail_then([cola()], monkeypatch)
    assert len(load_source(SOURCES["cola"], HUB, "train")) == 2
    assert len(calls) == 1 and pauses == [1, 2]


def test_a_refusal_is_an_answer(monkeypatch, pauses) -> None:
    def ask(*question) -> None:
        raise BusyError(404)

    monkeypatch.setattr(hub, "_ask_hub", ask)
    calls = fail_then([ValueError("no such data set")], monkeypatch)
    with pytest.raises(UserError, match="no such data set"):
        load_source(SOURCES["cola"], HUB, "train")
    assert len(calls) == 1 and pauses == []


def test_streamed_rows_that_are_not_utf8_are_left_out(monkeypatch, pauses, tmp_path) -> None:
    """With the real `datasets`, whose stream of dictionaries ends at such a row."""
    texts = [b"question %d" % n for n in range(100)] + [b"\xff"]
    inputs = pa.Array.from_buffers(pa.string(), 101, pa.array(texts, pa.binary()).buffers())
    table = pa.table({"inputs": inputs, "targets": ["a"] * 101, "task": ["t"] * 101})
    paths = [str(tmp_path / f"{n}.parquet") for n in range(2)]
    for path in paths:
        pq.write_table(table, path)
    stream = datasets.load_dataset(
        "parquet", data_files=paths, split="train", streaming=True, cache_dir=str(tmp_path)
    )
    fail_then([stream], monkeypatch)
    rows = load_instructions(HUB)
    assert (rows.counts["read"], rows.counts["bad"]) == (202, 2)
    assert rows.counts["train"] + rows.counts["validation"] == 100


def test_survey_rows_that_are_not_utf8_are_left_out(monkeypatch, pauses) -> None:
    rows = [[survey_row(stem)] * 3 for stem in STEMS.values()]
    table = datasets.Dataset.from_list(rows[0])
    broken = pa.array([b"\xff"] + [rows[0][0]["question"].encode()] * 2, pa.binary()).buffers()
    column = pa.Array.from_buffers(pa.string(), 3, broken)
    first = datasets.Dataset(table.data.table.set_column(0, "question", column))
    fail_then([first, *rows[1:]], monkeypatch)
    bad: list = []
    assert len(load_surveys(HUB, bad)["nlp"]) == 2
    assert [(counts.dropped, counts.read) for counts in bad] == [(1, 3), (0, 3), (0, 3)]


def test_a_stream_of_bad_rows_alone_ends(monkeypatch, pauses) -> None:
    def endless_blanks():
        while True:
            yield {"inputs": "", "targets": "yes", "task": "a"}

    fail_then([Stream([endless_blanks()])], monkeypatch)
    with pytest.raises(UserError, match=r"instructions: 4,096 of 4,096 rows .*flan row 1: "):
        load_instructions(HUB)
