#!/usr/bin/env python3
"""Makes requests from the interface's own description, and holds the answers to it.

    cargo run --release -- demo --owners 3 --serve --keep DIR
    python3 -m venv DIR/venv && DIR/venv/bin/pip install schemathesis
    DIR/venv/bin/python tests/clients/fuzz.py --node DIR/clinic --examples 300

It ends with 0 only if every status, header, type and body is one that the description has for that request: so there
is no error of the server but the documented ones, 503 and 504.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib

CHECKS = ["status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance", "unsupported_method", "ignored_auth"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--node", type=pathlib.Path, required=True, help="folder with consilium.toml and http.token")
    arguments.add_argument("--examples", type=int, default=100, help="requests of each kind and operation")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    with open(chosen.node / "consilium.toml", "rb") as file:
        listen = tomllib.load(file)["http"]["listen"]
    token = (chosen.node / "http.token").read_text().strip()
    with tempfile.TemporaryDirectory() as folder:
        # In a file, since other users of a machine see the arguments of its programs.
        settings = pathlib.Path(folder) / "schemathesis.toml"
        settings.touch(mode=0o600)
        settings.write_text(f'headers = {{ Authorization = "Bearer {token}" }}\n')
        program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
        words = [program, "--config-file", settings, "run", f"http://{listen}/openapi.json",
                 "--checks", ",".join(CHECKS), "--max-examples", str(chosen.examples), "--seed", str(chosen.seed)]
        sys.exit(subprocess.run(words, cwd=folder, check=False).returncode)


if __name__ == "__main__":
    main()
