"""What a check of a dataset found: each kind of fault once, with its count, its entries and what was done about it."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line, printable, shorten_list, shorten_middle

OnFault = Literal["repair", "skip", "refuse"]
"""What to do about faults: repair what has one meaning and skip the rest, skip all of them, or refuse the dataset."""

Action = Literal["noted", "repaired", "skipped", "refused"]

Unit = Literal["image", "annotation"]

NO_OBJECTS = "no_objects"
"""Kind of a refusal that is not told beside another one, which may be its cause."""

MAX_SKIPPED = 0.1
"""Share of a split's images, or of its annotations, that may be skipped before the split is refused."""


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one split."""

    kind: str
    """A stable name for programs, such as "inverted_box"."""
    action: Action
    text: str
    """What is wrong and what was done, for people: "boxes of negative size are turned round"."""
    count: int
    entries: tuple[str, ...] = ()
    """All entries concerned, such as "annotation 17" or a file name."""

    def line(self, limit: int = 3) -> str:
        """For the log: the text, and the count with the first entries."""
        if not self.entries:
            return self.text
        first = [shorten_middle(entry) for entry in self.entries[:limit]]
        return f"{self.text}: {self.count:,} ({shorten_list([*first, *self.entries[limit:]], limit)})"


@dataclass
class SplitReport:
    """The findings in one split, in the order in which they were made.

    A reader or check calls one method for each kind of fault; nothing is raised before `refusals` are asked for, so
    that everything is said at once.
    """

    source: str
    """The annotation file or folder, as messages call it: relative to the dataset folder."""
    on_fault: OnFault = "repair"
    findings: list[Finding] = field(default_factory=list)
    totals: dict[Unit, int] = field(default_factory=lambda: {"image": 0, "annotation": 0})
    """Entries before anything was skipped; a reader sets them."""
    skipped: dict[Unit, int] = field(default_factory=lambda: {"image": 0, "annotation": 0})
    whole: dict[Unit, list[int]] = field(default_factory=dict)
    """Of a dataset of which this split is a share: how many entries had been skipped before it was divided, of how many
    in all. That a share would have to answer for the faults of all would refuse it for a few."""

    def divide(self, images: int, annotations: int) -> None:
        """From here on count the entries of a share of the dataset, which has so many."""
        self.whole = {unit: [self.skipped[unit], total] for unit, total in self.totals.items()}
        self.totals = {"image": images, "annotation": annotations}
        self.skipped = {"image": 0, "annotation": 0}

    def count_skipped(self, unit: Unit) -> int:
        """In the split, or in the whole dataset before it was divided."""
        return self.skipped[unit] + self.whole.get(unit, [0])[0]

    def note(self, kind: str, text: str, entries: Iterable[object] = ()) -> None:
        """Something unusual that costs nothing, such as ids that are not numbers."""
        self._add(kind, "noted", text, entries)

    def repair(self, kind: str, what: str, remedy: str, entries: Iterable[object], unit: Unit = "annotation") -> bool:
        """A fault that has one meaning. Returns whether to repair the entries; if not, leave them out.

        `what` and `remedy` make a sentence: "boxes of negative size" and "are turned round".
        """
        entries = _named(entries)
        if self.on_fault == "repair":
            self._add(kind, "repaired", f"{what} {remedy}", entries)
        elif self.on_fault == "skip":
            self._skip(kind, f"{what} are left out", entries, unit)
        else:
            self._add(kind, "refused", what, entries)
        return self.on_fault == "repair"

    def skip(self, kind: str, what: str, entries: Iterable[object], unit: Unit) -> None:
        """A fault without a single meaning: the entries are to be left out. `what` is such as "images without file"."""
        entries = _named(entries)
        if self.on_fault == "refuse":
            self._add(kind, "refused", what, entries)
        else:
            self._skip(kind, f"{what} are left out", entries, unit)

    def refuse(self, kind: str, text: str, entries: Iterable[object] = ()) -> None:
        """What cannot be learned or would teach something false, and what to do about it. Raised by `raise_refused`."""
        self._add(kind, "refused", text, entries)

    def refusals(self) -> list[str]:
        """One line for each reason not to use the split; empty if it may be used."""
        refused = [finding for finding in self.findings if finding.action == "refused"]
        causes = [finding for finding in refused if finding.kind != NO_OBJECTS] or refused
        lines = [finding.line() for finding in causes]
        if self.on_fault == "refuse" and lines:
            lines[-1] += "; --data.on_fault repair mends or leaves out such entries"
        limited = [(unit, self.skipped[unit], total) for unit, total in self.totals.items()]
        limited += [(unit, count, total) for unit, (count, total) in self.whole.items()]
        for unit, count, total in limited:
            is_consequence = unit == "annotation" and lines  # what is refused as a whole is left out one by one
            if self.on_fault == "repair" and count > MAX_SKIPPED * total and not is_consequence:
                kinds = [finding.line() for finding in self.findings if finding.action == "skipped"]
                lines.append(
                    f"{count:,} of {total:,} {unit}s would be left out ({'; '.join(kinds)}); correct them, or accept "
                    "that with --data.on_fault skip"
                )
        return lines

    def lines(self) -> list[str]:
        """For the log: one line for each kind that is not refused."""
        return [f"{self.source}: {finding.line()}" for finding in self.findings if finding.action != "refused"]

    def to_dict(self) -> dict[str, Any]:
        """For data_report.json: everything."""
        return {
            "source": self.source,
            "on_fault": self.on_fault,
            "totals": dict(self.totals),
            "skipped": dict(self.skipped),
            "whole": dict(self.whole),
            "findings": [{**vars(finding), "entries": list(finding.entries)} for finding in self.findings],
        }

    @staticmethod
    def from_dict(content: dict[str, Any]) -> "SplitReport":
        findings = [Finding(**{**each, "entries": tuple(each["entries"])}) for each in content["findings"]]
        counts = (content["totals"], content["skipped"], content["whole"])
        return SplitReport(content["source"], content["on_fault"], findings, *counts)

    def _skip(self, kind: str, text: str, entries: Sequence[str], unit: Unit) -> None:
        self._add(kind, "skipped", text, entries)
        self.skipped[unit] += len(entries)

    def _add(self, kind: str, action: Action, text: str, entries: Iterable[object]) -> None:
        entries = _named(entries)
        self.findings.append(Finding(kind, action, text, len(entries), entries))


def raise_refused(root: Path, reports: Iterable[SplitReport]) -> None:
    """Raise one `DetrLiteError` with every reason of all splits; return if there is none."""
    reasons = [f"{report.source}: {line}" for report in reports for line in report.refusals()]
    if reasons:
        command = f"{command_line('doctor')} {shlex.quote(str(root))}"
        raise DetrLiteError(f"{' | '.join(dict.fromkeys(reasons))}; all of it, with pictures: {command}")


def entries_of(mask: Any, name: Callable[[int], str]) -> list[str]:
    """Names of the entries where a boolean array is True."""
    return [name(int(index)) for index in mask.nonzero()[0]]


def _named(entries: Iterable[object]) -> tuple[str, ...]:
    return tuple(printable(entry) for entry in entries)
