#!/usr/bin/env python3
"""Plants each violation in a small tree and demands that check_structure.py reports exactly it."""
import pathlib
import tempfile
import unittest

import check_structure

CLEAN = {
    "runtime/core/error.hpp": "#pragma once\n",
    "runtime/core/README.md": "# core\n",
    "runtime/autograd/tape.hpp": '#pragma once\n#include "runtime/core/error.hpp"\n',
    "runtime/autograd/README.md": "# autograd\n",
    "kernels/registry.cpp": "void all() { register_norm(t); }\n",
    "kernels/norm/norm.hpp": '#pragma once\n#include <vector>\n#include "runtime/core/error.hpp"\n',
    "kernels/norm/norm_reference.cpp": '#include "kernels/norm/norm.hpp"\n',
    "kernels/README.md": "# kernels\n",
    "parallel/mesh.hpp": '#pragma once\n#include "runtime/autograd/tape.hpp"\n',
    "parallel/README.md": "# parallel\n",
    "layers/sparsity/registry.cpp": "auto list = {make_dense_mechanism};\n",
    "layers/sparsity/dense.cpp": '#include "kernels/norm/norm.hpp"\n#include "parallel/mesh.hpp"\n'
                                 "Mechanism make_dense_mechanism() {}\n",
    "layers/sparsity/helper.cpp": "int no_mechanism_here;\n",
    "layers/README.md": "# layers\n",
    "launch/registry.cpp": "auto list = {train_command()};\n",
    "launch/commands/train.cpp": '#include "parallel/mesh.hpp"\nCommand train_command() {}\n',
    "launch/commands/helper.cpp": "int no_command_here;\n",
    "launch/README.md": "# launch\n",
    "tests/mesh_test.cpp": '#include "launch/commands/train.cpp"\n#include "kernels/norm/norm.hpp"\n',
    "tests/README.md": "# tests\n",
}


class Planted(unittest.TestCase):
    def problems(self, changes, removed=()):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in {**CLEAN, **changes}.items():
                if name in removed:
                    continue
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
            return check_structure.problems(root)

    def expect(self, changes, fragment, removed=()):
        found = self.problems(changes, removed)
        self.assertEqual(len(found), 1, found)
        self.assertIn(fragment, found[0])

    def test_two_types_of_one_name(self):
        self.expect({"kernels/norm/norm.hpp": "#pragma once\nstruct Norm final : Op {\n};\n",
                     "parallel/mesh.hpp": "#pragma once\nnamespace filigree {\nclass Norm {\n};\n}\n"}, "defines Norm")

    def test_two_constants_of_one_name(self):
        self.expect({"kernels/norm/norm.hpp": "#pragma once\ninline constexpr char kName[] = \"a\";\n",
                     "parallel/mesh.hpp": "#pragma once\ninline constexpr const char* kName = \"b\";\n"}, "defines kName")

    def test_types_apart_in_unnamed_namespaces(self):
        text = "namespace {\n\nstruct Local {\n};\n\n}  // namespace\n"
        self.assertEqual(self.problems({"kernels/norm/norm_reference.cpp": text, "kernels/norm/norm.cpp": text}), [])

    def test_a_clean_tree_has_no_problem(self):
        self.assertEqual(self.problems({}), [])

    def test_cuda_registry(self):
        tree = {"kernels/cuda/registry.cpp": "void all() { register_cuda<Norm, &Norm::Arguments::x>(t); }\n",
                "kernels/norm/norm_cuda.cu": "void Norm::cuda(const Arguments&) {}\n",
                "tests/kernels/norm_test.cpp": "TEST(NormTest, Matches) { expect_parity<Norm>(build); }\n",
                "tests/simt/CMakeLists.txt": 'set(suites\n    NormTest\n    Other\n)\n'}
        self.assertEqual(self.problems(tree), [])
        self.expect({**tree, "kernels/norm/norm_cuda.cu": "void Norm::cuda() {}\nvoid Max::cuda() {}\n"},
                    "kernels/cuda/registry.cpp: add the line for register_cuda<Max>")
        self.expect({**tree, "tests/simt/CMakeLists.txt": 'set(suites\n    Other\n)\n'},
                    "names no suite that compares Norm")
        self.expect({**tree, "tests/kernels/norm_test.cpp": "TEST(NormTest, Matches) { expect(build); }\n"},
                    "names no suite that compares Norm")

    def test_upward_include(self):
        self.expect({"runtime/core/error.hpp": '#pragma once\n#include "runtime/autograd/tape.hpp"\n'},
                    'runtime/core/error.hpp:2: runtime/core must not include "runtime/autograd/tape.hpp"')

    def test_kernels_must_not_know_the_tape(self):
        self.expect({"kernels/norm/norm_cpu.cpp": '#include "runtime/autograd/tape.hpp"\n'}, "kernels must not include")

    def test_siblings_must_not_know_each_other(self):
        self.expect({"kernels/norm/norm_cpu.cpp": '  #  include "parallel/mesh.hpp"\n'}, "kernels must not include")
        self.expect({"parallel/mesh.cpp": '#include "kernels/norm/norm.hpp"\n'}, "parallel must not include")

    def test_program_must_not_include_tests(self):
        self.expect({"launch/commands/helper.cpp": '#include "tests/mesh_test.cpp"\n'}, "launch must not include")

    def test_include_that_is_not_from_the_root(self):
        self.expect({"parallel/mesh.cpp": '#include "mesh.hpp"\n'}, "from the root of the repository")

    def test_source_in_an_unknown_folder(self):
        self.expect({"util/a.cpp": "int a;\n"}, "does not know")

    def test_missing_kernel_registration(self):
        self.expect({"kernels/norm/other_reference.cpp": "int a;\n"}, "add the line for register_other")

    def test_registration_without_a_reference(self):
        self.expect({}, "lists register_norm", removed=["kernels/norm/norm_reference.cpp"])

    def test_missing_mechanism(self):
        self.expect({"layers/sparsity/window.cpp": "Mechanism make_window_mechanism() {}\n"},
                    "add the line for make_window_mechanism")

    def test_missing_importer(self):
        self.expect({"data_pipeline/registry.cpp": "auto list = {};\n", "data_pipeline/README.md": "# data\n",
                     "data_pipeline/importers/csv.cpp": "int a;\n"}, "add the line for open_csv")

    def test_missing_command(self):
        self.expect({"launch/commands/plan.cpp": "Command plan_command() {}\n"}, "add the line for plan_command")

    def test_listed_command_without_a_file(self):
        self.expect({"launch/registry.cpp": "auto list = {train_command(), eval_command()};\n"}, "lists eval_command")

    def test_missing_and_overlong_readme(self):
        self.expect({}, "parallel: has no README.md", removed=["parallel/README.md"])
        self.expect({"parallel/README.md": "line\n" * 81}, "longer than a page")

    def test_text_hygiene(self):
        for text, fragment in [("int a;", "does not end"), ("int a; \n", ":1: white space"), ("int a;\r\n", ":1: white space"),
                               ("\tint a;\n", ":1: a tab"), ("int a;\n\n", "empty line"), (b"\xff\n", "not UTF-8"),
                               ("// " + "TO" + "DO: later\n", "unfinished"), ("#if 0\n", "switched off")]:
            if isinstance(text, bytes):
                self.expect({"launch/notes.md": text}, fragment)
            else:
                self.expect({"launch/a.cpp": text}, fragment)
        self.expect({"launch/a.hpp": "int a;\n"}, "#pragma once")


if __name__ == "__main__":
    unittest.main()
