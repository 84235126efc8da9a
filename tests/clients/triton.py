#!/usr/bin/env python3
"""Talks to a node through NVIDIA's tritonclient, unchanged from PyPI.

In one terminal, a consortium on this machine:

    cargo run --release -- demo --owners 3 --serve --keep DIR

In another one, this script; the token stays in its file:

    python3 -m venv DIR/venv && DIR/venv/bin/pip install 'tritonclient[http]'
    DIR/venv/bin/python tests/clients/triton.py --node DIR/clinic --cases DIR/cases.csv

It lists the models, reads their metadata, asks about cases with a known answer in JSON and in bytes, and provokes
the protocol's errors. It ends with 0 only if all of that went as it should.
"""

import argparse
import csv
import json
import pathlib
import tomllib

import numpy
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

TASK = "exact"


def refused(what, status, text, call):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == str(status), f"{what}: {error.status()} is not {status}: {error}"
        assert text in error.message(), f"{what}: {error.message()!r} lacks {text!r}"
        print(f"  {what}: {error.status()} {error.message()}")
        return
    raise AssertionError(f"{what} was not refused")


def tensor(rows, datatype="FP64", binary=True, shape=None):
    kind = {"FP64": numpy.float64, "FP32": numpy.float32, "INT64": numpy.int64}[datatype]
    values = numpy.asarray(rows, dtype=kind)
    made = triton.InferInput("input", list(shape or values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def main():
    arguments = argparse.ArgumentParser(description="Talk to a node through tritonclient")
    folder = "folder with consilium.toml and http.token"
    arguments.add_argument("--node", type=pathlib.Path, required=True, help=folder)
    arguments.add_argument("--cases", type=pathlib.Path, required=True, help="cases, the class in the last column")
    arguments.add_argument("--most", type=int, default=20, help="how many of them to ask about")
    arguments = arguments.parse_args()

    settings = tomllib.loads((arguments.node / "consilium.toml").read_text())
    token = (arguments.node / "http.token").read_text().strip()
    # Copied for each call: the client writes into the dictionary that it is given.
    headers = {"Authorization": f"Bearer {token}"}
    with arguments.cases.open() as file:
        rows = list(csv.reader(file))[: arguments.most]
    cases = [([float(value) for value in row[:-1]], row[-1]) for row in rows]
    client = triton.InferenceServerClient(settings["http"]["listen"])

    assert client.is_server_live(headers=dict(headers))
    assert client.is_server_ready(headers=dict(headers)), "not ready: look at the dashboard"
    print("server:", client.get_server_metadata(headers=dict(headers)))
    index = client.get_model_repository_index(headers=dict(headers))
    print("models:", ", ".join(f"{model['name']} ({model['state']})" for model in index))
    assert TASK in [model["name"] for model in index]
    assert client.is_model_ready(TASK, headers=dict(headers))
    metadata = client.get_model_metadata(TASK, headers=dict(headers))
    classes = json.loads(metadata["parameters"]["classes"])
    print("metadata:", metadata["inputs"], metadata["outputs"], classes)
    assert client.get_model_config(TASK, headers=dict(headers))["max_batch_size"] >= 1
    assert metadata["inputs"][0]["shape"] == [-1, len(cases[0][0])]

    ask = lambda row, **more: client.infer(TASK, [tensor([row], **more)], headers=dict(headers), request_id="case")
    right = 0
    for values, expected in cases:
        answers = [ask(values), ask(values, binary=False), ask(values, datatype="FP32")]
        labels = [int(answer.as_numpy("label")[0, 0]) for answer in answers]
        names = [answer.as_numpy("class")[0, 0].decode() for answer in answers]
        assert len(set(labels)) == 1, f"JSON and bytes disagree: {labels}"
        assert names == [classes[labels[0]]] * len(names), names
        right += names[0] == expected
    print(f"right: {right} of {len(cases)} cases, each asked in JSON, FP64 and FP32")
    assert right * 10 >= len(cases) * 9, "the ensemble is right in more than nine of ten"
    last = answers[0].get_response()
    print("provenance:", json.dumps(last["parameters"]))
    assert last["id"] == "case" and last["parameters"]["noise_source"] == "none"

    only = client.infer(TASK, [tensor([cases[0][0]])], headers=dict(headers),
                        outputs=[triton.InferRequestedOutput("class", binary_data=False)])
    assert only.as_numpy("label") is None and only.as_numpy("class").shape == (1, 1)
    first = tensor([cases[0][0]])
    noisy = client.infer("private", [first], headers=dict(headers)).get_response()["parameters"]
    assert noisy["noise_source"] != "none" and noisy["epsilon_charged"] > 0
    again = client.infer("private", [first], headers=dict(headers), parameters={"release": noisy["release"]})
    assert again.get_response()["parameters"]["repeated"], "the same question under its name is not charged again"
    statistics = client.get_inference_statistics(TASK, headers=dict(headers))["model_stats"][0]
    print("statistics:", statistics["inference_stats"])

    row, wide = cases[0][0], len(cases[0][0])
    print("refusals:")
    wrong = {"Authorization": "Bearer " + "x" * 64}
    refused("wrong token", 401, "Bearer TOKEN", lambda: client.infer(TASK, [tensor([row])], headers=wrong))
    refused("no token", 401, "Bearer TOKEN", lambda: client.get_model_metadata(TASK))
    put = lambda made, **more: client.infer(TASK, [made], headers=dict(headers), **more)
    refused("wrong shape", 400, "shape [n, ", lambda: put(tensor([row[1:]])))
    refused("wrong datatype", 400, "FP64", lambda: put(tensor([[1] * wide], "INT64")))
    refused("unknown model", 404, "offers", lambda: client.infer("nothing", [tensor([row])], headers=dict(headers)))
    refused("too many rows", 400, "n = 1", lambda: put(tensor([row] * 999)))
    size = settings["http"]["body_bytes_max"] // 8 + 1
    refused("oversized body", 413, "body_bytes_max", lambda: put(tensor([[0.0] * size])))
    scores = [triton.InferRequestedOutput("label", class_count=2)]
    refused("scores", 400, "no scores", lambda: put(tensor([row]), outputs=scores))
    assert ask(row).as_numpy("label").shape == (1, 1), "it answers after all of that"
    print("all as it should be")


if __name__ == "__main__":
    main()
