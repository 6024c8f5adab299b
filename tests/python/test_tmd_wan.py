"""The loader of exported students against the golden case, and what it refuses.

    python3 -m unittest discover -s tests/python -p test_tmd_wan.py      with the Python of scripts/python-env
"""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

import h5py
import numpy as np
import torch
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "model/python"))
import tmd_wan  # noqa: E402
from tmd_wan import ExportError, load_student  # noqa: E402

CASE = ROOT / "tests/golden/gated-m2n2h2"
LIMIT = 2e-6  # relative L2 of float32 against the float64 reference; a float32 sinusoid alone costs 5e-6

torch.set_num_threads(1)


class Golden:
    config = json.loads((CASE / "case.json").read_text())
    student = load_file(CASE / "student.safetensors")
    fake = load_file(CASE / "fake.safetensors")
    draws = load_file(CASE / "draws.safetensors")
    expected = load_file(CASE / "expected.safetensors")
    latent = config["latent"]


def metadata(method="tmd", **changes):
    """The metadata that `tmd export` would write for the golden case, with changes to the sampler or whole keys."""
    config, wan = Golden.config["config"], Golden.config["config"]["wan"]
    model = {key: wan[key] for key in ("heads", "head_dim", "ffn", "layers", "channels", "text_dim", "freq_dim", "eps")}
    sampler = {"outer_steps": config["M"], "outer_grid": Golden.config["grid_t"], "outer_shift": config["outer_shift"],
               "guidance_scale": 1.0}
    if method != "dmd2v":
        sampler |= {"inner_steps": config["N"], "inner_grid": Golden.config["grid_s"], "inner_shift": config["inner_shift"],
                    "head_blocks": config["H"], "fusion": config["fusion"],
                    "inner_velocity": "instantaneous" if method == "tm" else "average"}
    channels = wan["channels"]
    result = {"format": "pt", "tmd.export": "1", "tmd.method": method,
              "tmd.model": json.dumps(model | {"text_length": wan["text_len"]}),
              "tmd.latents": json.dumps({"shape": Golden.latent, "codec": "none", "mean": [0.0] * channels,
                                         "std": [1.0] * channels})}
    sampler |= {key: changes.pop(key) for key in list(changes) if key in sampler}
    result["tmd.sampler"] = json.dumps(sampler)
    return result | {key: value for key, value in changes.items() if value is not None}


def error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


class ExportCase(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)

    def export(self, weights, described=None):
        save_file(weights, self.folder / "student.safetensors", described or metadata())
        return self.folder

    def near(self, actual, expected, limit=LIMIT):
        self.assertEqual(list(actual.shape), list(expected.shape))
        self.assertLess(error(actual, expected), limit)

    def diffusers_folder(self, max_shard_size="1GB", described=None):
        """The fake score of the case as the diffusers folder of a DMD2-v export, written by diffusers itself."""
        wan = load_student(self.export(Golden.fake, metadata("dmd2v"))).wan
        folder = self.folder / "export"
        wan.save_pretrained(folder / "transformer", max_shard_size=max_shard_size)
        for file in (folder / "transformer").glob("*.safetensors"):
            save_file(load_file(file), file, described or metadata("dmd2v"))
        return folder


class GoldenCase(ExportCase):
    """Values of an independent float64 reference."""

    def test_backbone_and_head(self):
        student = load_student(self.export(Golden.student))
        draws, expected = Golden.draws, Golden.expected
        text = torch.where(draws["s1.drop"].bool()[:, None, None], draws["text_neg"], draws["s1.text"])
        main = student.backbone(expected["s1.x_t"], expected["s1.t"], text)
        self.near(main.tokens, expected["s1.m"])
        self.near(student.head(expected["s1.y_s"], expected["s1.s"], expected["s1.r"], main), expected["s1.h"])

    def test_inner_flow(self):
        student = load_student(self.export(Golden.student))
        draws, expected = Golden.draws, Golden.expected
        heads, states = [], []
        main = student.backbone(expected["s2s.x_t"], expected["s2s.t"], draws["s2s.text"])
        y_hat = student.inner_flow(main, draws["s2s.y1"], lambda head, y: (heads.append(head), states.append(y)))
        self.near(torch.stack(heads), expected["s2s.inner_heads"])
        self.near(torch.stack(states), expected["s2s.inner_states"])
        self.near(y_hat, expected["s2s.y_hat"])
        again = student.velocity(expected["s2s.x_t"], expected["s2s.t"], draws["s2s.text"], draws["s2s.y1"])
        self.assertTrue(torch.equal(again, y_hat))

    def test_outer_steps(self):
        student = load_student(self.export(Golden.student))
        states = []
        student.sample_from(Golden.draws["sample.x"], Golden.draws["sample.text"], Golden.draws["sample.y1"], states.append)
        self.near(torch.stack(states), Golden.expected["sample.student"])

    def test_outer_steps_dmd2v(self):
        student = load_student(self.export(Golden.fake, metadata("dmd2v")) / "student.safetensors")
        states = []
        student.sample_from(Golden.draws["sample.x"], Golden.draws["sample.text"], None, states.append)
        self.near(torch.stack(states), Golden.expected["sample.dmd2v"])

    def test_reduced_precision(self):
        text, y_1 = Golden.draws["sample.text"], Golden.draws["sample.y1"]
        for dtype in (torch.bfloat16, torch.float16):
            student = load_student(self.export(Golden.student), dtype)
            types = {name: value.dtype for name, value in student.named_parameters()}
            kept = [name for name, value in types.items() if value == torch.float32]
            self.assertEqual(types["wan.blocks.0.attn1.norm_q.weight"], dtype)
            self.assertEqual(types["tmd.delta_projection.1.weight"], dtype)
            for name in ("wan.condition_embedder.time_embedder.linear_1.weight", "wan.blocks.3.scale_shift_table",
                         "wan.scale_shift_table", "wan.blocks.0.norm2.weight", "tmd.delta_embedding.0.bias",
                         "tmd.fusion.modulation", "tmd.fusion.gate"):
                self.assertIn(name, kept)
            sample = student.sample_from(Golden.draws["sample.x"], text, y_1)
            self.assertEqual(sample.dtype, torch.float32)
            self.near(sample, Golden.expected["sample.student"][-1], 2e-2)

    def test_weights_of_any_type(self):
        stored = {name: value.to(torch.bfloat16) for name, value in Golden.student.items()}
        student = load_student(self.export(stored))
        self.assertEqual({value.dtype for value in student.parameters()}, {torch.float32})
        rounded = load_student(self.export({name: value.float() for name, value in stored.items()}))
        for a, b in zip(student.parameters(), rounded.parameters()):
            self.assertTrue(torch.equal(a, b))


class Fusion(ExportCase):
    """Fusions whose result is known: a concat layer that lets through one side, a gate that is shut or wide open."""

    def head(self, weights, fusion):
        student = load_student(self.export(weights, metadata(fusion=fusion)))
        main = student.backbone(Golden.draws["sample.x"], 0.9, Golden.draws["sample.text"])
        return student.head(Golden.draws["sample.y1"][0], 0.7, 0.2, main)

    def gated(self, gate):
        weights = Golden.student | {"tmd.fusion.gate": torch.tensor([gate])}
        for name in ("tmd.fusion.ffn.2.weight", "tmd.fusion.ffn.2.bias"):
            weights[name] = torch.zeros_like(weights[name])  # z is then the patches of y_s
        return self.head(weights, "gated")

    def concat(self, of_m, of_patches):
        weights = {name: value for name, value in Golden.student.items() if not name.startswith("tmd.fusion.")}
        eye = torch.eye(64)
        weights["tmd.fusion.concat.weight"] = torch.cat([of_m * eye, of_patches * eye], dim=1)
        weights["tmd.fusion.concat.bias"] = torch.zeros(64)
        return self.head(weights, "concat")

    def test_m_alone(self):
        self.near(self.concat(1, 0), self.gated(-1e4), 1e-6)

    def test_patches_alone(self):
        self.near(self.concat(0, 1), self.gated(1e4), 1e-6)

    def test_half_of_each(self):
        self.near(self.concat(0.5, 0.5), self.gated(0.0), 1e-6)
        self.assertGreater(error(self.concat(1, 0), self.concat(0, 1)), 0.01)


class InnerFlow(ExportCase):
    def rollout(self, method, head_weight):
        weights = Golden.student | {"head.head.weight": head_weight * Golden.student["head.head.weight"]}
        student = load_student(self.export(weights, metadata(method)))
        main = student.backbone(Golden.draws["sample.x"], 0.9, Golden.draws["sample.text"])
        return student, main, Golden.draws["sample.y1"][0]

    def test_constant_head(self):
        # The head predicts c whatever it sees: both flows run straight to it, the average one as far as s_N says.
        student, main, y_1 = self.rollout("tm", 0)
        c = student.head(y_1, 0.5, 0.5, main)
        self.near(student.inner_flow(main, y_1), c, 1e-5)
        student, main, y_1 = self.rollout("tmd", 0)
        s_n = Golden.config["grid_s"][-1]
        self.near(student.inner_flow(main, y_1), y_1 - s_n * (y_1 - c), 1e-5)

    def test_instantaneous(self):
        student, main, y_1 = self.rollout("tm", 1)
        (_, s_1, s_2), y = Golden.config["grid_s"], y_1
        y = y - (s_2 - s_1) / s_2 * (y - student.head(y, s_2, s_2, main))
        self.near(student.inner_flow(main, y_1), student.head(y, s_1, s_1, main), 1e-5)


class Sampling(ExportCase):
    def test_noise_is_scaled_by_the_first_time(self):
        student = load_student(self.export(Golden.student))
        noise, inner, text = Golden.draws["sample.x"], Golden.draws["sample.y1"], Golden.draws["sample.text"]
        expected = student.sample_from(0.999 * noise, text, inner)
        self.assertTrue(torch.equal(student.sample(text, noise, inner), expected))

    def test_generator(self):
        student = load_student(self.export(Golden.student))
        text = Golden.draws["sample.text"]
        generator = torch.Generator().manual_seed(5)
        noise = torch.randn(2, *Golden.latent, generator=generator)
        inner = torch.randn(2, 2, *Golden.latent, generator=generator)
        drawn = student.sample(text, generator=torch.Generator().manual_seed(5))
        self.assertTrue(torch.equal(drawn, student.sample(text, noise, inner)))
        self.assertEqual(list(student.sample(text, shape=[4, 3, 2, 8]).shape), [2, 4, 3, 2, 8])

    def test_short_text_is_padded(self):
        student = load_student(self.export(Golden.student))
        text = Golden.draws["sample.text"].clone()
        text[:, 5:] = 0
        noise, inner = Golden.draws["sample.x"], Golden.draws["sample.y1"]
        self.assertTrue(torch.equal(student.sample(text, noise, inner), student.sample(text[:, :5], noise, inner)))

    def test_wrong_tensors(self):
        student = load_student(self.export(Golden.student))
        noise, inner, text = Golden.draws["sample.x"], Golden.draws["sample.y1"], Golden.draws["sample.text"]
        for message, arguments in {
            r"text has shape \[2, 8, 31\], expected \[2, S, 32\]": (text[:, :, 1:], noise, inner),
            r"text has 9 rows, the student takes 8": (torch.zeros(2, 9, 32), noise, inner),
            r"noise has shape \[1, 4, 2, 4, 6\], expected \[2, 4, 2, 4, 6\]": (text, noise[:1], inner),
            r"inner_noise has shape \[1, 2, 4, 2, 4, 6\], expected \[2, 2, 4, 2, 4, 6\]": (text, noise, inner[:1]),
        }.items():
            with self.assertRaisesRegex(ValueError, message):
                student.sample(*arguments)
        with self.assertRaisesRegex(ValueError, "H and W even"):
            student.sample(text, shape=[4, 2, 3, 6])
        with self.assertRaisesRegex(ValueError, "needs inner_noise"):
            student.velocity(noise, 0.5, text)
        plain = load_student(self.export(Golden.fake, metadata("dmd2v")))
        with self.assertRaisesRegex(ValueError, "takes no inner_noise"):
            plain.sample(text, noise, inner)
        with self.assertRaisesRegex(ValueError, "no flow head"):
            plain.backbone(noise, 0.5, text)


class DiffusersFolder(ExportCase):
    def check(self, folder, shards):
        self.assertEqual(len(list((folder / "transformer").glob("*.safetensors"))), shards)
        student = load_student(folder)
        states = []
        student.sample_from(Golden.draws["sample.x"], Golden.draws["sample.text"], None, states.append)
        self.near(torch.stack(states), Golden.expected["sample.dmd2v"])
        # diffusers reads the same weights from it; its own forward pass differs by its float32 sinusoid.
        wan = WanTransformer3DModel.from_pretrained(folder / "transformer")
        for name, value in wan.state_dict().items():
            self.assertTrue(torch.equal(value, student.wan.state_dict()[name]), name)
        x, text = Golden.draws["sample.x"], Golden.draws["sample.text"]
        with torch.no_grad():
            theirs = wan(x, torch.tensor([908.0, 908.0]), text, return_dict=False)[0]
        self.near(student.velocity(x, 0.908, text), theirs, 1e-4)

    def test_one_file(self):
        self.check(self.diffusers_folder(), 1)

    def test_sharded(self):
        self.check(self.diffusers_folder("400KB"), 3)

    def test_refusals(self):
        folder = self.diffusers_folder(described=metadata())
        with self.assertRaisesRegex(ExportError, "not a stock Wan transformer"):
            load_student(folder)
        config = folder / "transformer/config.json"
        folder = self.diffusers_folder()
        config.write_text(json.dumps(json.loads(config.read_text()) | {"num_attention_heads": 4}))
        with self.assertRaisesRegex(ExportError, "num_attention_heads = 4, the metadata says 2"):
            load_student(folder)

    def test_damaged_and_missing_shard(self):
        folder = self.diffusers_folder("400KB")
        last = sorted((folder / "transformer").glob("*.safetensors"))[-1]
        last.write_bytes(last.read_bytes()[:-100])
        with self.assertRaisesRegex(ExportError, f"{last.name}: not a safetensors file, or damaged"):
            load_student(folder)
        last.unlink()
        with self.assertRaisesRegex(FileNotFoundError, "no such file"):
            load_student(folder)


class OriginalFolder(ExportCase):
    """What --for wan writes: the layout of the original code, in one file or cut with an index."""

    def original(self, shards, **changes):
        wan = Golden.config["config"]["wan"]
        width = wan["heads"] * wan["head_dim"]
        config = {"_class_name": "WanModel", "dim": width, "eps": wan["eps"], "ffn_dim": wan["ffn"],
                  "freq_dim": wan["freq_dim"], "in_dim": wan["channels"], "model_type": "t2v", "num_heads": wan["heads"],
                  "num_layers": wan["layers"], "out_dim": wan["channels"], "text_len": wan["text_len"]}
        (self.folder / "config.json").write_text(json.dumps(config | changes))
        names, stem = sorted(Golden.fake), "diffusion_pytorch_model"
        if shards == 1:
            save_file(Golden.fake, self.folder / f"{stem}.safetensors", metadata("dmd2v"))
            return self.folder
        files = [f"{stem}-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        for i, file in enumerate(files):
            save_file({name: Golden.fake[name] for name in names[i::shards]}, self.folder / file, metadata("dmd2v"))
        (self.folder / f"{stem}.safetensors.index.json").write_text(
            json.dumps({"weight_map": {name: files[i % shards] for i, name in enumerate(names)}}))
        return self.folder

    def check(self, path):
        states = []
        load_student(path).sample_from(Golden.draws["sample.x"], Golden.draws["sample.text"], None, states.append)
        self.near(torch.stack(states), Golden.expected["sample.dmd2v"])

    def test_one_file(self):
        self.check(self.original(1))

    def test_index(self):
        folder = self.original(3)
        self.check(folder)
        self.check(folder / "diffusion_pytorch_model.safetensors.index.json")

    def test_refusals(self):
        with self.assertRaisesRegex(ExportError, "ffn_dim = 7, the metadata says"):
            load_student(self.original(1, ffn_dim=7))
        (self.folder / "diffusion_pytorch_model.safetensors").unlink()
        with self.assertRaisesRegex(FileNotFoundError, "diffusion_pytorch_model.safetensors: no such file"):
            load_student(self.folder)
        (self.folder / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
        with self.assertRaisesRegex(ExportError, "not an index"):
            load_student(self.folder)


class Refusals(ExportCase):
    def refused(self, message, weights=None, described=None):
        with self.assertRaises(ExportError) as caught:
            load_student(self.export(weights or Golden.student, described))
        for part in [message] if isinstance(message, str) else message:
            self.assertIn(part, str(caught.exception))

    def test_metadata(self):
        self.refused("export format version 2", described=metadata(**{"tmd.export": "2"}))
        self.refused("no 'tmd.export'", described={"format": "pt"})
        self.refused("tmd.method is 'lcm'", described=metadata(**{"tmd.method": "lcm"}))
        self.refused("tmd.model is missing or no JSON", described=metadata(**{"tmd.model": "{"}))
        self.refused("tmd.latents has no 'shape'", described=metadata(**{"tmd.latents": "{}"}))
        self.refused("sampled without guidance", described=metadata(guidance_scale=5.0))
        self.refused("not 0 and 2 ascending times", described=metadata(inner_grid=[0.0, 0.999]))
        self.refused("not 0 and 2 ascending times", described=metadata(outer_grid=[0.0, 0.999, 0.9]))
        self.refused("head_blocks is 5", described=metadata(head_blocks=5))
        self.refused("fusion is 'sum'", described=metadata(fusion="sum"))
        self.refused("inner_velocity is 'mean'", described=metadata(inner_velocity="mean"))

    def test_all_tensors_are_listed(self):
        weights = dict(Golden.student)
        del weights["blocks.1.ffn.0.bias"], weights["tmd.fusion.gate"]
        weights["blocks.4.ffn.0.bias"], weights["tmd.fusion.concat.bias"] = torch.zeros(128), torch.zeros(64)
        weights["head.head.bias"] = torch.zeros(20)
        weights["blocks.0.modulation"] = weights["blocks.0.modulation"].double()
        self.refused(["missing blocks.1.ffn.0.bias", "missing tmd.fusion.gate", "unexpected blocks.4.ffn.0.bias",
                      "unexpected tmd.fusion.concat.bias", "head.head.bias has shape [20], expected [16]",
                      "blocks.0.modulation is F64"], weights)

    def test_head_of_another_method(self):
        self.refused("unexpected tmd.fusion.gate", described=metadata("dmd2v"))
        self.refused("missing tmd.fusion.gate", Golden.fake)

    def test_files_and_types(self):
        with self.assertRaisesRegex(FileNotFoundError, "student.safetensors"):
            load_student(self.folder)
        (self.folder / "student.safetensors").write_text("no tensors")
        with self.assertRaisesRegex(ExportError, "not a safetensors file"):
            load_student(self.folder)
        with self.assertRaisesRegex(ValueError, "float64"):
            load_student(self.export(Golden.student), torch.float64)


class CommandLine(ExportCase):
    def run_main(self, *words):
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            try:
                code = tmd_wan.main([str(word) for word in words])
            except SystemExit as stop:
                code = stop.code
        return code, printed.getvalue()

    def embeddings(self):
        """The case's texts as a tmd-latents file in bfloat16, and as they come back from it."""
        text = Golden.draws["sample.text"].to(torch.bfloat16)
        file = self.folder / "prompts.h5"
        with h5py.File(file, "w") as f:
            f.attrs.update(format="tmd-latents", version=1)
            f["text"] = text.view(torch.int16).numpy().view(np.uint16)
            f["text"].attrs["dtype"] = "bfloat16"
        return file, text.float()

    def test_samples(self):
        folder, (embeddings, text) = self.export(Golden.student), self.embeddings()
        output, student = self.folder / "out.safetensors", load_student(folder)
        code, printed = self.run_main(folder, "--embeddings", embeddings, "--output", output, "--seed", 3)
        self.assertEqual(code, 0, printed)
        drawn = student.sample(text, generator=torch.Generator().manual_seed(3))
        self.near(load_file(output)["latents"], drawn, 1e-5)
        with safe_open(output, framework="pt") as written:
            self.assertEqual(json.loads(written.metadata()["tmd.latents"])["shape"], Golden.latent)
        noise = self.folder / "noise.safetensors"
        save_file({"noise": Golden.draws["sample.x"], "inner_noise": Golden.draws["sample.y1"]}, noise)
        words = (folder, "--embeddings", embeddings, "--output", output, "--noise", noise, "--batch", 2)
        self.assertEqual(self.run_main(*words)[0], 0)
        expected = student.sample(text, Golden.draws["sample.x"], Golden.draws["sample.y1"])
        self.assertTrue(torch.equal(load_file(output)["latents"], expected))
        self.assertEqual(len(list(self.folder.glob("out.safetensors*"))), 1)
        # A file without the noise is refused; nothing is drawn in its place.
        for lacking in ("noise", "inner_noise"):
            given = {"noise": Golden.draws["sample.x"], "inner_noise": Golden.draws["sample.y1"]}
            del given[lacking]
            save_file(given, noise)
            code, printed = self.run_main(*words)
            self.assertEqual(code, 65, printed)
            self.assertIn(f"no tensor {lacking}", printed)

    def test_exit_codes(self):
        folder, (embeddings, _) = self.export(Golden.student), self.embeddings()
        output = self.folder / "out.safetensors"
        self.assertEqual(self.run_main(folder)[0], 64)
        self.assertEqual(self.run_main(folder, "--embeddings", embeddings, "--output", output, "--batch", 0)[0], 64)
        for bad in (self.folder / "none", CASE / "case.json"):
            code, printed = self.run_main(bad, "--embeddings", embeddings, "--output", output)
            self.assertEqual(code, 65, printed)
        self.assertEqual(self.run_main(folder, "--embeddings", CASE / "case.json", "--output", output)[0], 65)
        nowhere = self.folder / "none/out.safetensors"
        code, printed = self.run_main(folder, "--embeddings", embeddings, "--output", nowhere)
        self.assertEqual(code, 74, printed)
        self.assertFalse(output.exists())


if __name__ == "__main__":
    unittest.main()
