#!/usr/bin/env python3
"""checkpoint/FORMAT.md holds: its example reads the checkpoints of a run with h5py."""
import json
import re
import unittest

from harness import ROOT, ModelTest, training

try:
    import h5py
    import numpy
except ImportError:
    h5py = None


@unittest.skipIf(h5py is None, "h5py and numpy are not installed")
class Format(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prepare(*training("whole", 2), ranks=1)
        cls.prepare(*training("split", 2, parallel__tensor=2), ranks=2)

    def test_the_example_reads_every_tensor(self):
        example = re.search(r"```python\n(.*?)```", (ROOT / "checkpoint/FORMAT.md").read_text(), re.DOTALL).group(1)
        names = {}
        exec(example, names)
        folder = self.folder / "split/checkpoints/step_00000002"
        manifest = json.loads((folder / "manifest.json").read_text())
        sliced = 0
        for name, tensor in manifest["tensors"].items():
            values = names["load"](folder, name)
            self.assertEqual(list(values.shape), tensor["global_shape"])
            self.assertEqual(values.dtype, numpy.float32)
            sliced += len(tensor["slices"]) > 1
            for part in tensor["slices"]:
                file = folder / manifest["files"][part["file"]]["name"]
                raw = numpy.fromfile(file, "<f4", int(numpy.prod(part["shape"])), offset=part["file_offset"])
                box = tuple(slice(o, o + n) for o, n in zip(part["offset"], part["shape"]))
                self.assertTrue(numpy.array_equal(values[box], raw.reshape(part["shape"])), name)
        self.assertGreater(sliced, 10)
        # The same numbers as on one rank, but for rounding: every slice is in its place.
        name = "parameters/blocks.0.norm1.weight"
        whole = names["load"](self.folder / "whole/checkpoints/step_00000002", name)
        self.assertTrue(numpy.allclose(whole, names["load"](folder, name), atol=1e-4))

    def test_the_attributes_say_what_the_manifest_says(self):
        folder = self.folder / "split/checkpoints/step_00000002"
        manifest = json.loads((folder / "manifest.json").read_text())
        for rank, entry in enumerate(manifest["files"]):
            with h5py.File(folder / entry["name"]) as file:
                root = {key: value.decode() if isinstance(value, bytes) else value for key, value in file.attrs.items()}
                self.assertEqual((root["format"], root["version"], root["id"], root["step"], root["rank"], root["world"]),
                                 (manifest["format"], 1, manifest["id"], 2, rank, 2))
                for tensor in manifest["tensors"].values():
                    for part in tensor["slices"]:
                        if part["file"] != rank:
                            continue
                        dataset = file[part["dataset"]]
                        self.assertEqual(dataset.id.get_offset(), part["file_offset"])
                        self.assertEqual(list(dataset.attrs["global_shape"]), tensor["global_shape"])
                        self.assertEqual(list(dataset.attrs["offset"]), part["offset"])
                        self.assertIn(dataset.attrs["dtype"], ("f32", b"f32"))
        last = (folder / "manifest.json").read_text().splitlines()[-3:]
        self.assertEqual((last[0], last[2]), ("},", "}"))
        self.assertRegex(last[1], r'^"self_hash": "[0-9a-f]{32}"$')


if __name__ == "__main__":
    unittest.main()
