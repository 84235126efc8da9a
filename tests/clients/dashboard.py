#!/usr/bin/env python3
"""Looks at a node's dashboard in a headless Chromium, with every other address cut off.

    cargo run --release -- demo --owners 3 --serve --keep DIR
    python3 -m venv DIR/venv && DIR/venv/bin/pip install websocket-client
    DIR/venv/bin/python tests/clients/dashboard.py --node DIR/compute-zero --pictures DIR

It signs in by the form and by the address, at the width of a desk and of a phone, light and dark, and keeps
pictures. It ends with 0 only if nothing was written to the console, no request left the node, the page is no wider
than the screen, every control and picture has a name, everything is reached with the Tab key, and a wrong token is
told.
"""

import argparse
import base64
import json
import pathlib
import subprocess
import tempfile
import time
import tomllib
import urllib.request

import websocket

WITHIN = 20
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
SECTIONS = ["ready", "pools", "queries", "members", "noise", "troubles"]
NAMED = {"button", "link", "textbox", "image", "img", "region", "table", "heading", "form"}


class Page:
    """One tab, spoken to by the browser's own protocol."""

    def __init__(self, port):
        opened = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
        address = json.load(urllib.request.urlopen(opened))["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(address, timeout=WITHIN, suppress_origin=True)
        self.number, self.events = 0, []
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"]:
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self.events.append(message)

    def value(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script):
        end = time.monotonic() + WITHIN
        while not self.value(script):
            shown = self.value("document.body.innerText")
            assert time.monotonic() < end, f"not in {WITHIN} s: {script}\n{shown}"
            time.sleep(0.05)

    def press(self, key, code):
        for kind in ["keyDown", "keyUp"]:
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def show(self, name, scheme):
        width, height = SIZES[name]
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=name == "phone")
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path):
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def spoken(self):
        """What the console said, beside failed requests that the page is there to explain."""
        console = self.heard("Runtime.consoleAPICalled") + self.heard("Runtime.exceptionThrown")
        logged = self.heard("Log.entryAdded")
        return console + [event for event in logged if "401" not in event["params"]["entry"]["text"]]

    def asked(self):
        return {event["params"]["request"]["url"] for event in self.heard("Network.requestWillBeSent")}

    def heard(self, method):
        return [event for event in self.events if event["method"] == method]


def names(page):
    found = page.call("Accessibility.getFullAXTree")["nodes"]
    for node in found:
        role = node.get("role", {}).get("value")
        if role in NAMED and not node.get("ignored"):
            assert node.get("name", {}).get("value"), f"no name: {role} {node}"
    return sum(node.get("role", {}).get("value") in NAMED for node in found)


def walk(page):
    """Every control in the order of the Tab key."""
    wanted = page.value("[...document.querySelectorAll('a[href], button, input, [tabindex=\"0\"]')]"
                        ".filter((one) => one.checkVisibility()).length")
    page.value("document.activeElement.blur(); getSelection().removeAllRanges()")
    seen = set()
    for _ in range(3 * wanted):
        page.press("Tab", 9)
        seen.add(page.value("(() => { const one = document.activeElement; "
                            "return one.id || one.getAttribute('aria-label') || one.textContent })()"))
    assert len(seen - {"", None}) >= wanted, f"{wanted} controls, and the keyboard reaches {seen}"
    return wanted


def look(port, base, token, pictures):
    page = Page(port)
    page.show("phone", "light")
    page.call("Page.navigate", url=base)
    page.until("document.readyState === 'complete' && !document.getElementById('login').hidden")
    page.picture(pictures / "login.png")
    names(page)
    page.value(f"document.getElementById('token').value = {json.dumps('x' * 64)}; login.requestSubmit()")
    page.until("document.getElementById('wrong').textContent.includes('does not know')")
    page.value(f"document.getElementById('token').value = {json.dumps(token)}; login.requestSubmit()")
    page.until("!document.getElementById('node').hidden")
    assert token not in page.value("location.href + document.documentElement.outerHTML")
    for name in SIZES:
        for scheme in ["light", "dark"]:
            page.show(name, scheme)
            page.call("Page.navigate", url=f"{base}#token={token}")
            page.until("!document.getElementById('node').hidden && location.hash === ''")
            for section in SECTIONS:
                page.until(f"document.getElementById('{section}').children.length > 0")
            # The next look draws pictures for the width of now.
            moment = page.value("document.getElementById('updated').textContent")
            page.until(f"document.getElementById('updated').textContent !== {json.dumps(moment)}")
            wide = page.value("document.documentElement.scrollWidth")
            assert wide <= SIZES[name][0], f"{name}: {wide} pixels wide"
            page.picture(pictures / f"{name}-{scheme}.png")
            print(f"{name}, {scheme}: {names(page)} named things, {walk(page)} controls by keyboard")
    page.value("document.getElementById('forget').click()")
    page.until("!document.getElementById('login').hidden && sessionStorage.length === 0")
    strange = [url for url in page.asked() if not url.startswith(base)]
    assert not strange, f"requests elsewhere: {strange}"
    assert not any(token in url.split("#")[0] for url in page.asked()), "the token was sent in an address"
    assert not page.spoken(), page.spoken()
    print(f"{len(page.asked())} addresses, all of the node; nothing on the console")


def main():
    arguments = argparse.ArgumentParser(description="Look at a dashboard")
    folder = "folder with consilium.toml and http.token"
    arguments.add_argument("--node", type=pathlib.Path, required=True, help=folder)
    arguments.add_argument("--pictures", type=pathlib.Path, required=True, help="folder for pictures")
    arguments.add_argument("--browser", default="chromium")
    arguments = arguments.parse_args()
    settings = tomllib.loads((arguments.node / "consilium.toml").read_text())
    base = f"http://{settings['http']['listen']}/"
    token = (arguments.node / "http.token").read_text().strip()
    with tempfile.TemporaryDirectory() as profile:
        browser = subprocess.Popen(
            [arguments.browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            file, end = pathlib.Path(profile) / "DevToolsActivePort", time.monotonic() + WITHIN
            while not file.exists() or not file.read_text():
                assert browser.poll() is None and time.monotonic() < end, "the browser did not start"
                time.sleep(0.05)
            look(int(file.read_text().split()[0]), base, token, arguments.pictures)
        finally:
            browser.terminate()
            browser.wait()
    print("all as it should be")


if __name__ == "__main__":
    main()
