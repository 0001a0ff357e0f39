#!/usr/bin/env python3
"""A run that is killed or told to stop, and resumed, ends with the bits of the run that was left alone."""
import os
import signal
import unittest

from harness import ModelTest, kill_job, rank_processes, training

STEPS = 20
# Steps slow enough to be interrupted at a chosen one; dropout, so that the random state counts too.
RUN = {"train__batch": 128, "train__micro_batch": 2, "model__dropout": 0.1, "train__validate_every": 5,
       "checkpoint__every": 10}


class Resume(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prepare(*training("straight", STEPS, **RUN), ranks=2)

    def start(self, **changes):
        return self.start_program(*training("stopped", STEPS, **RUN, **changes), ranks=2)

    def assert_same_as(self, straight):
        hashes = self.tensor_hashes(straight, STEPS)
        self.assertGreater(len(hashes), 3 * 10)  # parameters and both moments
        self.assertEqual(self.tensor_hashes("stopped", STEPS), hashes)
        self.assertEqual(self.metrics("stopped"), self.metrics(straight))
        self.assertEqual(sorted(self.losses("stopped")), list(range(1, STEPS + 1)))

    def killed_and_resumed(self, **changes):
        process = self.start(**changes)
        self.wait_for_checkpoint(process, "stopped", 10)
        self.wait_for_step(process, "stopped", 12)
        kill_job(process)
        process.communicate(timeout=30)
        lost = max(self.losses("stopped"))
        self.assertIn(lost, range(12, STEPS))
        self.assertEqual(self.saved_steps("stopped"), [10])
        text = self.succeed("train", "--resume", "stopped", ranks=2)
        self.assertIn("resuming after step 10", text)

    def test_kill_9_of_a_data_parallel_job(self):
        self.killed_and_resumed()
        self.assert_same_as("straight")

    def test_kill_9_of_a_tensor_parallel_job(self):
        self.killed_and_resumed(parallel__tensor=2)
        self.succeed(*training("straight_tensor", STEPS, **RUN, parallel__tensor=2), ranks=2)
        self.assert_same_as("straight_tensor")

    def stopped_by(self, send):
        """Stops the job after step 3; it must have saved the step that it was at."""
        process = self.start()
        self.wait_for_step(process, "stopped", 3)
        send(process)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, output + errors)
        self.assertIn("filigree train --resume stopped", output)
        steps = max(self.losses("stopped"))
        self.assertIn(steps, range(3, STEPS))
        self.assertEqual(self.saved_steps("stopped")[-1], steps)
        self.succeed("train", "--resume", "stopped", ranks=2)
        self.assert_same_as("straight")

    def test_a_run_is_trained_by_one_job_at_a_time(self):
        process = self.start_program(*training("one", 10_000, checkpoint__every=2), ranks=2)
        self.wait_for_step(process, "one", 3)
        for arguments in (["train", "--resume", "one"], ["checkpoint", "prune", "one", "--keep", "1"]):
            self.assertRegex(self.refuse(*arguments)[0], r"checkpoint folder one/checkpoints is in use by process \d+ on ")
        self.assertIsNone(process.poll())

    def test_sigusr1_to_mpirun(self):
        self.stopped_by(lambda process: process.send_signal(signal.SIGUSR1))

    def test_sigusr1_to_one_rank(self):
        self.stopped_by(lambda process: os.kill(rank_processes(process)[1], signal.SIGUSR1))

    def test_sigterm_to_every_rank(self):
        def send(process):
            for pid in rank_processes(process).values():
                os.kill(pid, signal.SIGTERM)
        self.stopped_by(send)

    def test_sigterm_to_mpirun(self):
        """mpirun waits a second, passes SIGTERM on, sends SIGKILL a second later, and returns 1 whatever the ranks do."""
        process = self.start_program(*training("long", 100000, **{**RUN, "train__log_every": 1000}), ranks=2)
        self.wait_for_step(process, "long", 1)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, output + errors)
        saved = self.saved_steps("long")[-1]
        self.assertEqual(saved, max(self.losses("long")))
        self.succeed("train", "--resume", "long", "--train.steps", saved + 2, ranks=2)
        self.assertEqual(sorted(self.losses("long")), list(range(1, saved + 3)))


if __name__ == "__main__":
    unittest.main()
