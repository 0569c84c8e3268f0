"""What a person sees of a page and does there, and what it does that nobody asked for."""

from __future__ import annotations

import hashlib
import json
import time
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

PATIENCE_S = 20.0
OWN_HOSTS = ("127.0.0.1", "")  # the latter of data:, blob: and file:
QUESTION = "/_dash-update-component"
IS_WHOLE = """() => !document.querySelector(
    '[data-dash-is-loading], ._dash-loading, .dash-graph--pending')
  && document.querySelector('main h1') !== null
  && [...document.querySelectorAll('.dash-graph')].every(
    (graph) => graph.querySelector('.js-plotly-plot')?._fullLayout)
  && [...document.querySelectorAll('[id*=\\'"part":"rows"\\']')].every(
    (rows) => rows.querySelector('.ag-cell, td, p'))"""
PICTURES = """() => Object.fromEntries(
  [...document.querySelectorAll('.js-plotly-plot')].map((plot) => {
    const traces = plot._fullData.map((trace) => Object.fromEntries(
      ['type', 'name', 'x', 'y', 'z', 'customdata', 'text'].map((key) => [key, trace[key]])));
    const layout = plot._fullLayout;
    return [JSON.parse(plot.closest('.dash-graph').id).name, {
      traces: traces,
      title: layout.title.text,
      told: (layout.annotations || []).map((each) => each.text),
      paper: layout.paper_bgcolor,
    }];
  }))"""
# Each control's value as it stands there: the words in its pills or in its field.
CONTROLS = """() => Object.fromEntries(
  [...document.querySelectorAll('[id*=\\'"part":"filter"\\'], [id*=\\'"part":"option"\\']')]
    .filter((field) => field.tagName === 'INPUT')
    .map((field) => {
      const pills = field.parentElement.querySelectorAll('.mantine-Pill-label');
      return [JSON.parse(field.id).name,
        [...pills].map((pill) => pill.innerText).join(', ') || field.value];
    }))"""


def id_of(kind: str, name: str) -> str:
    """As Dash writes it: the keys in their order."""
    return json.dumps({"name": name, "part": kind}, separators=(",", ":"))


def part(kind: str, name: str) -> str:
    """An element of ours, as a selector."""
    return f"[id='{id_of(kind, name)}']"


class Look:
    """A page of the browser under observation.

    Attributes:
        troubles: What it did that nobody asked for.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        self.asked: list[str] = []  # addresses of all requests
        self._questions = 0  # to the server
        self._open = 0  # of these without an answer
        self._heard = {
            "console": self._hear,
            "pageerror": lambda error: self.troubles.append(f"error: {error}"),
            "dialog": self._dismiss,
            "request": self._ask,
            "requestfinished": self._answered,
            "requestfailed": self._answered,
            "response": self._take,
        }
        for event, hear in self._heard.items():
            page.on(event, hear)

    def leave(self) -> None:
        """Observe the page no longer: others will."""
        for event, hear in self._heard.items():
            self.page.remove_listener(event, hear)

    def _hear(self, message) -> None:
        # Plotly's warnings are traces of that name.
        if message.type in ("error", "warning", "assert") or message.text.startswith("WARN"):
            self.troubles.append(f"console: {message.text}")

    def _dismiss(self, dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _ask(self, request) -> None:
        self.asked.append(request.url)
        self._questions += QUESTION in request.url
        self._open += QUESTION in request.url
        if (urlsplit(request.url).hostname or "") not in OWN_HOSTS:
            self.troubles.append(f"request: {request.url}")

    def _answered(self, request) -> None:
        self._open -= QUESTION in request.url

    def _take(self, response) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status}: {response.url}")

    def until(self, is_so):
        """Wait until something is so; gives what it is."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := is_so()):
            assert time.monotonic() < deadline, f"never so; {self.troubles}"
            self.page.wait_for_timeout(30)
        return found

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.wait()

    def wait(self) -> None:
        """Until all of the page is there, and the same at two looks in a row."""
        before = None

        def is_at_rest() -> bool:
            nonlocal before
            earlier, before = before, None
            if self._open or not self.page.evaluate(IS_WHOLE):
                return False
            before = (self.pictures(), self.controls(), self.page.url)
            return before == earlier

        self.until(is_at_rest)

    def pictures(self) -> dict[str, str]:
        """Of each figure what its points are, in short."""
        return {
            name: hashlib.sha256(json.dumps(figure).encode()).hexdigest()[:12]
            for name, figure in self.figures().items()
        }

    def figures(self) -> dict[str, dict]:
        return self.page.evaluate(PICTURES)

    def controls(self) -> dict[str, str]:
        return self.page.evaluate(CONTROLS)

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query)

    def heading(self):
        return self.page.get_by_role("heading", level=1)

    def field(self, kind: str, name: str):
        return self.page.locator(f"input{part(kind, name)}")

    def choices(self, kind: str, name: str):
        """Of a control, which is opened for it."""
        self.field(kind, name).click()
        own = self.page.locator(f"[role=listbox][aria-labelledby='{id_of(kind, name)}-label']")
        expect(own).to_be_visible()
        return own.get_by_role("option")

    def choose(self, kind: str, name: str, at: int) -> str:
        """The choice of that number; gives what the address says then."""
        choice = self.choices(kind, name).nth(at)
        self.wait_for_view(choice.click)
        if kind == "filter":
            self.page.keyboard.press("Escape")
        return self.query().get(name, [""])[-1]

    def take_away(self, name: str) -> None:
        """A filter's last value."""
        self.wait_for_view(lambda: self.field("filter", name).press("Backspace"))
        self.page.keyboard.press("Escape")

    def wait_for_view(self, act) -> None:
        """Do what changes the address, and wait for what the server shows then."""
        address, questions = self.page.url, self._questions
        act()
        self.until(lambda: self.page.url != address and self._questions > questions)
        self.wait()

    def follow(self, link: str) -> None:
        """A link of the navigation."""
        self.page.get_by_role("navigation").get_by_role("link", name=link, exact=True).click()
        expect(self.heading()).to_have_text(link)
        self.wait()

    def panel(self, name: str):
        """A figure or a table, with its buttons."""
        return self.page.locator(".panel").filter(
            has=self.page.locator(f"{part('graph', name)}, {part('rows', name)}")
        )

    def card(self, title: str):
        return self.page.locator(".card").filter(has=self.page.get_by_text(title, exact=True))

    def darken(self) -> None:
        """Or lighten."""
        self.page.locator("label").filter(has_text="Dark").last.click()
        self.wait()

    def type(self, name: str, text: str) -> None:
        """Into an option's field."""
        self.wait_for_view(lambda: self.field("option", name).fill(text))
        assert self.query().get(name) == [text]

    def zoom(self, figure: str) -> None:
        """Drag over the middle of the figure, as a person does."""
        box = self.plot(figure).locator(".nsewdrag").first.bounding_box()
        mouse, middle = self.page.mouse, box["y"] + box["height"] / 2
        before = self.range_of(figure)
        mouse.move(box["x"] + box["width"] * 0.2, middle)
        mouse.down()
        mouse.move(box["x"] + box["width"] * 0.6, middle + 2, steps=5)
        mouse.up()
        self.until(lambda: self.range_of(figure) != before)

    def range_of(self, figure: str) -> list[float]:
        return self.plot(figure).evaluate("(plot) => plot._fullLayout.xaxis.range")

    def plot(self, figure: str):
        """Plotly's element of a figure."""
        return self.page.locator(f"{part('graph', figure)} .js-plotly-plot")

    def hover_point(self, figure: str, where: str) -> dict[str, float]:
        """Over the first of a selector's elements in a figure; gives its middle."""
        self.plot(figure).scroll_into_view_if_needed()
        box = self.plot(figure).locator(where).first.bounding_box()
        middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        self.page.mouse.move(middle["x"] - 1, middle["y"])
        self.page.mouse.move(middle["x"], middle["y"])
        expect(self.plot(figure).locator(".hoverlayer .hovertext").first).to_be_visible()
        return middle

    def click_point(self, figure: str, where: str) -> str:
        """Gives the record that the point is of."""
        middle = self.hover_point(figure, where)
        record = self.plot(figure).evaluate("(plot) => plot._hoverdata[0].customdata[0]")
        self.page.mouse.click(middle["x"], middle["y"])
        return record

    def scheme(self) -> str:
        return self.page.evaluate("document.documentElement.dataset.mantineColorScheme")

    def focused(self) -> str | None:
        """What has the focus: its name as we gave it, or its words; none beyond the page's end."""
        return self.page.evaluate(
            """() => {
              const at = document.activeElement;
              if (at === document.body) return null;
              const own = at.id.startsWith('{') && at.tagName === 'INPUT';
              return own ? JSON.parse(at.id).name
                : at.innerText || at.getAttribute('aria-label') || at.id;
            }"""
        )
