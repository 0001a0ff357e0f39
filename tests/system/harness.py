"""Runs the program as a user does. FILIGREE names the executable; without it, build/cpu-release's."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("FILIGREE", str(ROOT / "build/cpu-release/bin/filigree"))


def mpi_environment():
    """On one machine, quiet, also as root and with more ranks than cores."""
    return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
            "OMPI_MCA_btl": "^openib", "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMP_NUM_THREADS": "1"}


def command(arguments, ranks=0):
    """The command line of `filigree ARGUMENTS`, under mpirun when ranks > 0."""
    launcher = ["mpirun", "-np", str(ranks)] if ranks else []
    return launcher + [PROGRAM] + [str(argument) for argument in arguments]


def rank_processes(process):
    """Process ids of the ranks that this mpirun started, by rank."""
    ranks = {}
    for folder in pathlib.Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent != process.pid:
                continue
            for setting in (folder / "environ").read_bytes().split(b"\0"):
                if setting.startswith(b"OMPI_COMM_WORLD_RANK="):
                    ranks[int(setting.split(b"=")[1])] = int(folder.name)
        except (OSError, IndexError):
            continue  # no process, or one that has just ended
    return ranks


def at_work(pid):
    """Whether the process runs or is stopped: one that has ended may wait for init to take note of it."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def kill_job(process):
    """kill -9 of mpirun and of all its ranks at once, stopped ones too."""
    for pid in [*rank_processes(process).values(), process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class ProgramTest(unittest.TestCase):
    """Each test has a folder of its own, self.folder, and starts the program in it."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="filigree_system_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_program(self, *arguments, ranks=0, timeout=300, environment=None):
        return subprocess.run(command(arguments, ranks), cwd=self.folder, capture_output=True, text=True, timeout=timeout,
                              env={**mpi_environment(), **(environment or {})}, stdin=subprocess.DEVNULL)

    def start_program(self, *arguments, ranks=0):
        process = subprocess.Popen(command(arguments, ranks), cwd=self.folder, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=mpi_environment(), stdin=subprocess.DEVNULL)
        self.addCleanup(process.communicate)
        self.addCleanup(kill_job, process)
        return process

    def succeed(self, *arguments, **options):
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.returncode, 0, f"{arguments}\n{result.stdout}\n{result.stderr}")
        return result.stdout

    def refuse(self, *arguments, code=2, **options):
        """Expects this exit code; returns the program's error lines without their prefix."""
        # mpirun waits twice as long before it believes that ranks which have ended have ended.
        result = self.run_program(*arguments, environment={"OMPI_MCA_odls_base_sigkill_timeout": "0"}, **options)
        self.assertEqual(result.returncode, code, f"{arguments}\n{result.stdout}\n{result.stderr}")
        prefix = "filigree: error: "
        lines = [line[len(prefix):] for line in result.stderr.splitlines() if line.startswith(prefix)]
        self.assertTrue(lines, f"{arguments}: no error line in\n{result.stderr}")
        return lines


MODEL = {"data.path": "shards", "model.layers": 2, "model.width": 32, "model.heads": 2, "model.sequence": 32,
         "train.batch": 8, "train.log_every": 1, "train.threads": 1, "schedule.warmup_steps": 2}


def training(run, steps, **changes):
    """Arguments of a new run; changes are keys with __ for the dot."""
    values = {**MODEL, "train.steps": steps, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["train", "--run", run] + [word for key, value in values.items() for word in (f"--{key}", str(value))]


class ModelTest(ProgramTest):
    """Each test finds in self.folder a copy of what setUpClass has prepared: token shards of this repository's prose."""

    @classmethod
    def setUpClass(cls):
        corpus = tempfile.TemporaryDirectory(prefix="filigree_corpus_")
        cls.addClassCleanup(corpus.cleanup)
        cls.corpus = pathlib.Path(corpus.name)
        (cls.corpus / "text").mkdir()
        for number, path in enumerate(sorted(ROOT.glob("*/README.md")) + [ROOT / "CONTRIBUTING.md"]):
            shutil.copy(path, cls.corpus / "text" / f"{number}.md")
        cls.prepare("data", "tokenize", "--input", "text", "--output", "shards", "--vocabulary", "400",
                    "--document-paragraphs", "3")

    @classmethod
    def prepare(cls, *arguments, ranks=0):
        result = subprocess.run(command(arguments, ranks), cwd=cls.corpus, capture_output=True, text=True, timeout=300,
                                env=mpi_environment(), stdin=subprocess.DEVNULL)
        if result.returncode != 0:
            raise AssertionError(f"{arguments}\n{result.stdout}\n{result.stderr}")

    def setUp(self):
        super().setUp()
        shutil.copytree(self.corpus, self.folder, dirs_exist_ok=True)

    def metrics(self, run):
        """The lines of the run's metrics.jsonl without what depends on the clock: timing, and when a save was done."""
        lines = [json.loads(line) for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "timing"} for line in lines
                if line["kind"] != "checkpoint"]

    def losses(self, run):
        return {line["step"]: line["loss"] for line in self.metrics(run) if line["kind"] == "step"}

    def tensor_hashes(self, run, step):
        """What the checkpoint's manifest says of every tensor: type, shape, and the hash of each slice of its data."""
        manifest = json.loads((self.folder / run / f"checkpoints/step_{step:08}/manifest.json").read_text())
        return {name: (tensor["dtype"], tensor["global_shape"],
                       [(part["offset"], part["shape"], part["xxh3_128"]) for part in tensor["slices"]])
                for name, tensor in manifest["tensors"].items()}

    def saved_steps(self, run):
        return sorted(int(path.name[5:]) for path in (self.folder / run / "checkpoints").glob("step_????????"))

    def wait_for_checkpoint(self, process, run, step):
        """Until the run, still at work, has published the checkpoint of this step."""
        self.wait_for_step(process, run, step)
        deadline = time.monotonic() + 60
        while step not in self.saved_steps(run):
            self.assertTrue(process.poll() is None and time.monotonic() < deadline, f"no checkpoint {step} of {run}")
            time.sleep(0.005)

    def wait_for_step(self, process, run, step):
        """Until the run has reported this step; the process must still be at work."""
        file = self.folder / run / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not file.exists() or f'"step":{step},' not in file.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                kill_job(process)
                output, errors = process.communicate()
                self.fail(f"no step {step} of {run}\n{output}\n{errors}")
            time.sleep(0.005)
