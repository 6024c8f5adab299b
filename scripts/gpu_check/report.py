"""What the parts have found, kept in gpu-report.json and shown in gpu-report.md."""
import json
import os
import pathlib

FORMAT, VERSION = "tmd-gpu-report", 1
OK, FAILED, SKIPPED, TOO_LATE = "ok", "failed", "skipped", "too late"


class BadReport(Exception):
    """A file that is no report; the text names it."""


def read_report(path):
    """The report in `path`. Throws BadReport."""
    try:
        report = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise BadReport(f"{path} cannot be read: {error}")
    if not isinstance(report, dict) or report.get("format") != FORMAT or report.get("version") != VERSION:
        raise BadReport(f"{path} is no report of scripts/gpu-check (version {VERSION})")
    return report


def publish(path, text):
    """The file appears as a whole."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def number_text(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


class Report:
    """Parts of earlier starts stay until they run again."""

    def __init__(self, folder, names):
        self.folder, self.names = pathlib.Path(folder), list(names)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "gpu-report.json"
        self.parts, self.machine = {}, {}
        if self.file.exists():
            stored = read_report(self.file)
            self.parts, self.machine = stored["parts"], stored["machine"]

    def add(self, name, result):
        """`result`: verdict, reason, figures {name: {"value", "unit"}}, tail, seconds, began, commit, devices."""
        self.parts[name] = result

    def merge(self, path):
        """Takes from another report the parts that are newer than those that are here; returns their names."""
        other = read_report(path)
        taken = [name for name, result in other["parts"].items()
                 if name not in self.parts or result.get("began", "") > self.parts[name].get("began", "")]
        self.parts.update({name: other["parts"][name] for name in taken})
        self.machine = self.machine or other["machine"]
        return taken

    def write(self):
        publish(self.file, json.dumps({"format": FORMAT, "version": VERSION, "machine": self.machine, "parts": self.parts},
                                      indent=1) + "\n")
        publish(self.folder / "gpu-report.md", self.markdown())

    def ordered(self):
        known = [name for name in self.names if name in self.parts]
        return known + sorted(set(self.parts) - set(known))

    def markdown(self):
        lines = ["# GPU report", ""]
        lines += [f"| {cell(name)} | {cell(value)} |" for name, value in self.machine.items()]
        if self.machine:
            lines[2:2] = ["| machine | |", "|---|---|"]
        lines += ["", "| part | verdict | seconds | began | commit | |", "|---|---|---|---|---|---|"]
        for name in self.ordered():
            part = self.parts[name]
            lines.append(f"| {name} | {part['verdict']} | {part.get('seconds', 0):.0f} | {part.get('began', '')} "
                         f"| {part.get('commit', '')} | {cell(part.get('reason', ''))} |")
        not_run = [name for name in self.names if name not in self.parts]
        if not_run:
            lines += ["", f"Not run: {', '.join(not_run)}."]
        for name in self.ordered():
            lines += self.section(name, self.parts[name])
        return "\n".join(lines) + "\n"

    def section(self, name, part):
        lines = []
        figures = part.get("figures", {})
        if figures or part["verdict"] != OK:
            lines += ["", f"## {name}", ""]
        if part["verdict"] != OK:
            lines += [f"{part['verdict']}: {part.get('reason', '')}"]
        if part.get("devices") and figures:
            lines += [f"On {part['devices']}.", ""]
        if figures:
            lines += ["| figure | value | |", "|---|---|---|"]
            lines += [f"| {cell(key)} | {cell(number_text(figure['value']))} | {cell(figure.get('unit', ''))} |"
                      for key, figure in figures.items()]
        if part["verdict"] != OK and part.get("tail"):
            lines += ["", *("    " + line for line in part["tail"].rstrip("\n").split("\n"))]
        return lines
