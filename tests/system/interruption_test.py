#!/usr/bin/env python3
"""Commands that are told to end leave nothing half made."""
import random
import signal
import time
import unittest

from harness import ProgramTest


class Interruption(ProgramTest):
    def leftovers(self):
        return list(self.folder.glob("made*"))

    def test_ends_by_the_signal_and_leaves_nothing(self):
        draws = random.Random(1)
        words = ["".join(draws.choices("abcdefghij", k=8)) for _ in range(100_000)]
        (self.folder / "text.txt").write_text("\n\n".join(" ".join(draws.choices(words, k=100)) for _ in range(10_000)))
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            with self.subTest(number.name):
                process = self.start_program("data", "tokenize", "--input", "text.txt", "--output", "made",
                                             "--vocabulary", "4000", "--document-paragraphs", "1")
                deadline = time.monotonic() + 60
                while not self.leftovers():
                    self.assertTrue(process.poll() is None and time.monotonic() < deadline)
                    time.sleep(0.01)
                process.send_signal(number)
                _, errors = process.communicate(timeout=60)
                self.assertEqual(process.returncode, -number, errors)
                self.assertEqual(self.leftovers(), [])


if __name__ == "__main__":
    unittest.main()
