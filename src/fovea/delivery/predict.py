"""What `fovea predict` does: answer for every image of the inputs, write the answers, tell what was unlike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from fovea.data.guard_words import GuardTally
from fovea.data.new_images import NewImages
from fovea.data.options import Progress
from fovea.data.parallel import in_order
from fovea.delivery.image_inputs import Reading
from fovea.delivery.inputs import Source, opened_sources
from fovea.delivery.outputs import FORMS, Stdout
from fovea.delivery.predictor import Predictor
from fovea.delivery.submission import Sample, find_sample, submission_table
from fovea.errors import SettingsError
from fovea.evaluation.answer import Answer
from fovea.files import growing_file
from fovea.runfolder import check_target

Write = Callable[[bytes], None]


@dataclass(frozen=True)
class Wanted:
    """What is to be written.

    Attributes:
        top_k: how many labels an image.
        form: "csv" or "jsonl"; None: csv, and no rows on stdout where a submission is all that is wanted.
        output: the file for the rows; None: stdout.
        submission: the file for ids and labels in Kaggle's form; None: there is none.
        adapt: make images that are unlike the training images like them.
        skip_bad: leave out files that cannot be decoded.
        min_confidence: the least probability, in [0, 1], of an answer that is given; below it the label stays empty.
    """

    top_k: int = 1
    form: str | None = None
    output: Path | None = None
    submission: Path | None = None
    adapt: bool = False
    skip_bad: bool = False
    min_confidence: float = 0.0


@dataclass
class _Kept:
    """What a submission needs of all images."""

    labels: list[NDArray[np.int64]] = field(default_factory=list)
    ids: list[str] | None = field(default_factory=list)  # None: they only number rows
    sample: Sample | None = None

    def add(self, source: Source, answer: Answer) -> None:
        """Keep the answers for a batch."""
        self.labels.append(answer.predictions.predicted)
        if source.numbered:
            self.ids = None
        elif self.ids is not None:
            self.ids += map(str, answer.fitted.ids.tolist())

    def text(self, classes: tuple[str, ...]) -> str:
        """The submission."""
        labels = [classes[index] for index in np.concatenate(self.labels).tolist()]
        return submission_table(self.ids, labels, self.sample)


def predict_to(
    predictor: Predictor,
    places: Sequence[str],
    wanted: Wanted,
    stdout: BinaryIO | None,
    progress: Progress,
    say: Callable[[str, str], None],
) -> list[str]:
    """Answer for the images of INPUTs, batch by batch: memory does not grow with their number.

    Args:
        places: image files, folders, archives, tables, arrays, names of data sets, "-" for stdin.
        stdout: takes the rows where no file does; None: it is closed.
        progress: called as the work goes on.
        say: called with (topic, line): notes about the input, and what the guard has to say, at the end.

    Returns:
        Lines about the files that were written; none where the rows went to stdout.

    Raises:
        UserError: for an input, a setting or ids that cannot be used; no file is left then, whole or in part.
        RunFailedError: when the answers cannot be written.
    """
    _check(predictor, wanted)
    places = list(places)
    read_from = [predictor.path, *(Path(place) for place in places if place != "-")]
    output = None if wanted.output is None else check_target(wanted.output, read_from)
    submission = None if wanted.submission is None else check_target(wanted.submission, read_from)
    if output is not None and output == submission:
        raise SettingsError(f"{wanted.output} cannot hold both the rows and the submission: name two files.")
    tally = GuardTally(predictor.card.profile)
    kept = _Kept()
    with ExitStack() as stack:
        write: Write | None = None
        if output is not None:
            write = stack.enter_context(growing_file(output))
        elif submission is None or wanted.form is not None:
            write = Stdout(stdout)
        reading = Reading(predictor.preprocessor, wanted.adapt, wanted.skip_bad, progress)
        sources = stack.enter_context(opened_sources(places, reading))
        if submission is not None:
            kept.sample = next((found for source in sources if (found := _sample(source)) is not None), None)
            if kept.sample is not None:
                check_target(submission, [kept.sample.path])
        unsure = _answer_all(predictor, sources, wanted, tally, write, None if submission is None else kept, say)
        if submission is not None:
            text = kept.text(predictor.classes)
            stack.enter_context(growing_file(submission))(text.encode("utf-8", "backslashreplace"))
    for topic, line in tally.lines():
        say(topic, line)
    if wanted.min_confidence > 0:
        say(
            "unsure", f"{unsure:,} of {tally.images:,} images are left without a label: below {wanted.min_confidence:g}"
        )
    written = [str(path) for path in (wanted.output, wanted.submission) if path is not None]
    return [f"{tally.images:,} images", *written] if written else []


def _check(predictor: Predictor, wanted: Wanted) -> None:
    count = len(predictor.classes)
    if not 1 <= wanted.top_k <= count:
        raise SettingsError(f"--top-k {wanted.top_k}: expected 1 to {count}, the number of classes.")
    if wanted.form is not None and wanted.form not in FORMS:
        raise SettingsError(f"--format {wanted.form}: expected {' or '.join(FORMS)}.")
    if not 0 <= wanted.min_confidence <= 1:
        raise SettingsError(f"--min-confidence {wanted.min_confidence:g}: expected a probability, 0 to 1.")
    if wanted.min_confidence > 0 and wanted.submission is not None:
        raise SettingsError(
            "--min-confidence leaves labels empty, and a submission needs one for each image: leave one of them out."
        )


def _sample(source: Source) -> Sample | None:
    return find_sample(source.place) if source.place is not None and source.place.exists() else None


def _answer_all(
    predictor: Predictor,
    sources: Sequence[Source],
    wanted: Wanted,
    tally: GuardTally,
    write: Write | None,
    kept: _Kept | None,
    say: Callable[[str, str], None],
) -> int:
    """Answer for every batch; rows are written as they come.

    Returns:
        How many images were left without a label.
    """
    header, lines = FORMS[wanted.form or "csv"]
    is_first, unsure = True, 0
    for source in sources:
        for answer in _answers(predictor, source, wanted.adapt, tally):
            unsure += int((answer.predictions.confidence < wanted.min_confidence).sum())
            if write is not None:
                text = (header(wanted.top_k) if is_first else "") + lines(answer, wanted.top_k, wanted.min_confidence)
                write(text.encode("utf-8", "backslashreplace"))
                is_first = False
            if kept is not None:
                kept.add(source, answer)
        for note in source.notes:
            say("note", note)
    return unsure


def _answers(predictor: Predictor, source: Source, adapt: bool, tally: GuardTally) -> Iterator[Answer]:
    def work(new: NewImages) -> Answer:
        return next(predictor.answers([new], adapt))

    with _one_thread_a_batch() as (pool, workers):
        for answer in in_order(pool, work, source.batches, ahead=workers + 1):
            tally.add(answer.fitted)
            yield answer


@contextmanager
def _one_thread_a_batch() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """As many workers as torch has threads. Each answers a batch of its own, alone.

    Threads that share a batch wait for each other after every layer: long, where other programs run too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool, threads
    finally:
        torch.set_num_threads(threads)
