#!/usr/bin/env python3
"""A rank that dies or stalls ends the whole job soon, with a message that names it."""
import os
import signal
import time
import unittest

from harness import ModelTest, at_work, rank_processes, training


class FailedRank(ModelTest):
    def end_of_job(self, sent, **changes):
        """Sends the signal to rank 1 of 2 in the middle of training; returns mpirun's result and what it took."""
        process = self.start_program(*training("run", 100000, **changes), ranks=2)
        self.wait_for_step(process, "run", 3)
        ranks = rank_processes(process)
        self.assertEqual(sorted(ranks), [0, 1])
        os.kill(ranks[1], sent)
        start = time.monotonic()
        output, errors = process.communicate(timeout=60)
        # mpirun kills the other ranks and returns without having waited for them: the job has ended with its last rank.
        while (left := [rank for rank, pid in ranks.items() if at_work(pid)]) and time.monotonic() < start + 60:
            time.sleep(0.01)
        self.assertEqual(left, [], "ranks that are still there")
        return process.returncode, output + errors, time.monotonic() - start

    def test_a_killed_rank_ends_the_job_and_is_named(self):
        code, text, seconds = self.end_of_job(signal.SIGKILL)
        self.assertNotEqual(code, 0, text)
        self.assertLess(seconds, 10)
        self.assertRegex(text, r"rank 1\b.*(Killed|signal 9)")

    def test_a_stalled_rank_times_out_with_its_name_and_the_operation(self):
        code, text, seconds = self.end_of_job(signal.SIGSTOP, train__collective_timeout=2)
        self.assertEqual(code, 76, text)
        self.assertLess(seconds, 10)
        self.assertRegex(text, r"filigree: error: \[rank 0\] .*\b(all_reduce|reduce_scatter|all_gather|broadcast) #\d+")
        self.assertRegex(text, r"filigree: error: .*rank 1\b")


if __name__ == "__main__":
    unittest.main()
