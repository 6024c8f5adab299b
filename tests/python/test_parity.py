"""The yardstick of scripts/parity: what it calls equal, near and missed.

    tests/python/run test_parity
"""
import contextlib
import io
import pathlib
import sys
import unittest

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/parity"))
import comparisons  # noqa: E402
import models  # noqa: E402
import shapes  # noqa: E402
from table import Table, cosine, differing, largest, relative, worst  # noqa: E402

NAN = float("nan")


def verdicts(fill):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        table = Table()
        fill(table)
        return [row.verdict for row in table.rows], table.finish()


class Distances(unittest.TestCase):
    def test_values(self):
        expected = torch.tensor([3.0, 4.0])
        self.assertAlmostEqual(relative(torch.tensor([3.0, 4.5]), expected), 0.1)
        self.assertAlmostEqual(largest(torch.tensor([3.0, 4.5]), expected), 0.5)
        self.assertAlmostEqual(cosine(2 * expected, expected), 1)

    def test_a_reference_of_zeros_or_without_numbers_is_refused(self):
        for reference in (torch.zeros(3), torch.tensor([1.0, NAN])):
            for distance in (relative, largest, differing):
                with self.assertRaises(ValueError):
                    distance(reference, reference)

    def test_one_bit_differs(self):
        expected = torch.tensor([1.0, 0.0, 2.0])
        self.assertEqual(differing(expected.clone(), expected), 0)
        self.assertEqual(differing(torch.tensor([1.0, -0.0, 2.0]), expected), 1)
        self.assertEqual(differing(torch.nextafter(expected, expected + 1), expected), 3)
        self.assertEqual(differing(expected.bfloat16(), expected), 3)

    def test_no_number_is_worst(self):
        self.assertEqual(worst([(0.1, "a"), (NAN, "b"), (0.2, "c")])[1], "b")
        self.assertEqual(worst([(0.1, "a"), (0.2, "c")]), (0.2, "c"))

    def test_gradients_of_other_tensors_are_refused(self):
        with self.assertRaisesRegex(ValueError, "grad.b"):
            comparisons.worst_gradient({"grad.a": torch.ones(2)}, {"grad.a": torch.ones(2), "grad.b": torch.ones(2)})


class Verdicts(unittest.TestCase):
    def test_exit_code(self):
        def fine(table):
            table.below("s", "l", "m", "at the limit", 0.5, 0.5)
            table.above("s", "l", "m", "above", 0.6, 0.5)
            table.note("s", "l", "m", "for information", 9)

        self.assertEqual(verdicts(fine), (["ok", "ok", ""], 0))

    def test_what_misses(self):
        for miss in (lambda table: table.below("s", "l", "m", "too large", 0.51, 0.5),
                     lambda table: table.below("s", "l", "m", "no number", NAN, 0.5),
                     lambda table: table.above("s", "l", "m", "not above", 0.5, 0.5),
                     lambda table: table.above("s", "l", "m", "no number", NAN, 0.5)):
            self.assertEqual(verdicts(miss), (["MISSED"], 1))


class Models(unittest.TestCase):
    def test_every_tensor_has_a_name_of_its_own_and_is_not_zero(self):
        model = models.random_model(shapes.TINY_A, seed=1)
        names = [models.original_name(name) for name in model.state_dict()]
        self.assertEqual(len(set(names)), 69)  # of the original layout with two blocks
        self.assertIn("blocks.1.cross_attn.norm_k.weight", names)
        self.assertIn("blocks.0.norm3.bias", names)
        self.assertIn("head.head.weight", names)
        self.assertTrue(all(tensor.abs().sum() > 0 for tensor in model.state_dict().values()))

    def test_inputs_end_where_the_text_ends(self):
        inputs = models.random_inputs(shapes.TINY_TP, seed=1)
        self.assertEqual([int(row.any(dim=1).sum()) for row in inputs["text"]], [512, 77, 1])
        self.assertEqual(models.random_inputs(shapes.TINY_TP, 1, integer_times=True)["timestep"].dtype, torch.int64)


if __name__ == "__main__":
    unittest.main()
