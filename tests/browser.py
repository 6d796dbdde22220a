"""A real Chromium without a window, driven through a pipe."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60
"""That an answer may take; a busy machine is slow to start a browser."""


def find_chromium():
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    def __init__(self, executable, profile):
        # bash puts them where Chromium looks for them; far from 3 and 4 none is overwritten.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in self._pipes()]
        theirs_in, self._out, self._in, theirs_out = ends
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", executable),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", f"--user-data-dir={profile}"),
                "--remote-debugging-pipe",
            ],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._unread = b""
        self._n_sent = 0
        self.events = []

    @staticmethod
    def _pipes():
        pipes = [*os.pipe(), *os.pipe()]
        yield from pipes
        for end in pipes:
            os.close(end)

    def close(self):
        with suppress(OSError, TimeoutError):
            self.send("Browser.close")
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def send(self, method, session=None, **params):
        self._n_sent += 1
        message = {"id": self._n_sent, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._n_sent:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method, session, *, since=0, **params):
        """Wait for an event with these parameters, unless it is among those since then."""

        def is_it(event):
            is_same = event.get("method") == method and event.get("sessionId") == session
            return is_same and params.items() <= event["params"].items()

        while not any(map(is_it, self.events[since:])):
            self.events.append(self._read())

    def download(self, folder, start):
        """Do what starts a download into a new folder, and give the file when it is there."""
        folder.mkdir()
        self.send(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=str(folder),
            eventsEnabled=True,
        )
        since = len(self.events)
        start()
        self.wait_for("Browser.downloadProgress", None, since=since, state="completed")
        (name,) = (
            event["params"]["suggestedFilename"]
            for event in self.events[since:]
            if event["method"] == "Browser.downloadWillBegin"
        )
        return folder / name

    def _read(self):
        stop = time.monotonic() + SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], max(0, stop - time.monotonic()))
            if not ready:
                raise TimeoutError("The browser does not answer.")
            part = os.read(self._in, 2**20)
            if not part:
                raise OSError("The browser has ended.")
            self._unread += part
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    @contextmanager
    def page(self, path, width=1000, height=800, **media):
        """Open a file; media features by their names, with underscores."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in media.items()]
        page.send("Emulation.setEmulatedMedia", features=features)
        page.send("Page.navigate", url=path.as_uri())
        self.wait_for("Page.loadEventFired", session)
        yield page
        self.send("Target.closeTarget", targetId=target)


NEXT_FRAME = """
    for (const _ of [1, 2]) await new Promise((done) => requestAnimationFrame(done));
"""


class Page:
    def __init__(self, browser, session):
        self._browser, self._session = browser, session

    def send(self, method, **params):
        return self._browser.send(method, self._session, **params)

    def resize(self, width, height=800):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.run(NEXT_FRAME)  # with which media queries are looked at

    def run(self, code):
        """Run a function's body in the page and give what it returns."""
        answer = self.send(
            "Runtime.evaluate",
            expression=f"(async () => {{ {code} }})()",
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def reload(self):
        since = len(self._browser.events)
        self.send("Page.reload")
        self.wait_for("Page.loadEventFired", since=since)

    def wait_for(self, method, **params):
        self._browser.wait_for(method, self._session, **params)

    def press(self, key):
        """Press a key as a user does."""
        keys = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "Delete": (46, "")}
        code, text = keys[key]
        name = "Space" if key == " " else key
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=name,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def click(self, selector):
        """Click an element as a user does."""
        x, y = self.run(f"""
            const element = document.querySelector('{selector}');
            element.scrollIntoView({{ block: "center", behavior: "instant" }});
            {NEXT_FRAME}  // a click hits what was drawn last
            const {{ left, top, width, height }} = element.getBoundingClientRect();
            return [left + width / 2, top + height / 2];
        """)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text):
        self.send("Input.insertText", text=text)

    @property
    def errors(self):
        """What went wrong in the page, and what its policy forbade."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [e["params"] for e in self._events() if e["method"] in kinds]

    @property
    def requests(self):
        sent = [e for e in self._events() if e["method"] == "Network.requestWillBeSent"]
        return [e["params"]["request"]["url"] for e in sent]

    @property
    def forbidden(self):
        """Why requests were not even sent."""
        failed = [e for e in self._events() if e["method"] == "Network.loadingFailed"]
        return [e["params"].get("blockedReason") for e in failed]

    def _events(self):
        return [e for e in self._browser.events if e.get("sessionId") == self._session]
