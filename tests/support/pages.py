"""What people do with a page in a browser, and what they see there."""

from __future__ import annotations

from itertools import count
from typing import Any

from support.browser import Browser

_NUMBERS = count(1)


class Page:
    """One page at a time, of a browser that others may use as well."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._name = ""

    def open(self, url: str) -> None:
        """A new page with this address, in the place of the old one."""
        self.close()
        self._name = f"page {next(_NUMBERS)}"
        self.run("await page.goto(given.url)", url=url)

    def close(self) -> None:
        """Close what is open."""
        if self._name:
            self.run("await page.close()")
        self._name = ""

    def run(self, script: str, **given: Any) -> Any:
        """Run a script as `Browser.run`; it also has `seen`.

        Raises:
            AssertionError: it fails; the text has what the page shows.
        """
        try:
            return self._browser.run(self._name, script, **given)
        except AssertionError as error:
            shown = self._browser.run(self._name, "return await page.locator('body').innerText()")
            raise AssertionError(f"{error}\n{shown}") from None

    @property
    def seen(self) -> list[str]:
        """Errors, messages of the console and dialogs of the page."""
        found: list[str] = self.run("return seen") if self._name else []
        return found

    # -- what users do and see

    def click(self, name: str, role: str = "button") -> None:
        """Click what has this name for people."""
        self.run(
            "await page.getByRole(given.role, {name: given.name, exact: true}).first().click()", role=role, name=name
        )

    def fill(self, label: str, text: str) -> None:
        """Write a text into the field with this label, and leave it."""
        self.run("await page.getByLabel(given.label).first().fill(given.text)", label=label, text=text)

    def wait_for(self, text: str) -> None:
        """Wait until the page shows a text somewhere."""
        self.run("await page.getByText(given.text).first().waitFor()", text=text)

    def wait_for_rows(self, *rows: str, column: int = 0) -> None:
        """Wait until the first table has these texts in one of its columns, and no other rows."""
        self.run(
            """
            await page.waitForFunction(({ rows, column }) => {
              const at = document.querySelector("th.check") ? column + 1 : column;
              const found = [...(document.querySelector("tbody")?.rows ?? [])].map((row) => row.cells[at].textContent);
              return found.length === rows.length && rows.every((text, row) => found[row] === text);
            }, given);
            """,
            rows=rows,
            column=column,
        )

    def buttons(self) -> list[str]:
        """The names of all buttons that are shown."""
        found: list[str] = self.run(
            "return await page.getByRole('button').evaluateAll((all) => all.filter((one) => one.checkVisibility())"
            ".map((one) => one.ariaLabel ?? one.textContent))"
        )
        return found
