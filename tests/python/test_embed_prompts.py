"""scripts/embed_prompts.py with a tiny random encoder and a tokenizer that are made here.

    python3 -m unittest discover -s tests/python -p test_embed_prompts.py      with the Python of scripts/python-env
"""
import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked up

import h5py
import numpy as np
import torch
import transformers
from diffusers import WanPipeline
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import embed_prompts  # noqa: E402

LENGTH, WIDTH = 12, 16
# The third is text in a wrong encoding, and its < keeps ftfy from resolving entities itself.
PROMPTS = ["A cat", "  two   dogs\trun &amp; jump ", "caf\u00c3\u00a9 <b> &amp;amp;", "z"]
CLEANED = ["A cat", "two dogs run & jump", "caf\u00e9 <b> &", "z"]

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()


def make_tokenizer(folder):
    """A character is a token; end token behind, as umT5's."""
    characters = sorted(set("abcdefghijklmnopqrstuvwxyzA&<>\u00e9"))
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {character: 3 + i for i, character in enumerate(characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>",
                                                unk_token="<unk>", padding_side="left")
    fast.save_pretrained(folder)
    return len(vocabulary)


class EmbedPrompts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(place.cleanup)
        cls.model = pathlib.Path(place.name)
        torch.manual_seed(1)
        size = dict(vocab_size=make_tokenizer(cls.model / "tokenizer"), d_model=WIDTH, d_kv=4, d_ff=32, num_layers=2,
                    num_heads=4, pad_token_id=0, eos_token_id=1)
        transformers.UMT5EncoderModel(transformers.UMT5Config(**size)).save_pretrained(cls.model / "text_encoder")
        transformers.BartModel(transformers.BartConfig(
            vocab_size=size["vocab_size"], d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=1,
            decoder_start_token_id=1, forced_eos_token_id=None)).save_pretrained(cls.model / "bart")

    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)
        self.output = self.folder / "prompts.h5"

    def embed(self, text, *words, code=0, encoder="text_encoder"):
        """Runs the script in this process, which has imported transformers already; returns what it prints."""
        prompts = self.folder / "prompts.txt"
        prompts.write_bytes(text if isinstance(text, bytes) else text.encode())
        words = ["--encoder", self.model / encoder, "--prompts", prompts, "--output", self.output, "--length", LENGTH, *words]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                done = embed_prompts.main([str(word) for word in words])
            except SystemExit as stop:
                done = stop.code
        self.assertEqual(done, code, printed.getvalue())
        return printed.getvalue()

    def read(self, name):
        with h5py.File(self.output) as file:
            array = file[name][:]
            if file[name].attrs.get("dtype") == "bfloat16":
                self.assertEqual(array.dtype, np.uint16)
                array = (array.astype(np.uint32) << 16).view(np.float32)
            return array

    def of_pipeline(self, prompts, dtype):
        """What diffusers' pipeline hands to a Wan transformer."""
        pipeline = WanPipeline.__new__(WanPipeline)
        pipeline.tokenizer = transformers.AutoTokenizer.from_pretrained(self.model / "tokenizer", padding_side="right")
        pipeline.text_encoder = transformers.UMT5EncoderModel.from_pretrained(self.model / "text_encoder", dtype=dtype)
        with torch.no_grad():
            return pipeline._get_t5_prompt_embeds(prompts, max_sequence_length=LENGTH, device="cpu").float().numpy()

    def test_equals_the_pipeline(self):
        for name, dtype in {"f32": torch.float32, "bf16": torch.bfloat16}.items():
            self.embed("\n".join(PROMPTS) + "\n", "--dtype", name, "--negative", " bad &amp; ", "--batch", "8")
            expected = self.of_pipeline(PROMPTS, dtype)
            np.testing.assert_array_equal(self.read("text"), expected)
            np.testing.assert_array_equal(self.read("negative_text"), self.of_pipeline(["bad &"], dtype)[0])
            self.embed("\n".join(PROMPTS) + "\n", "--dtype", name, "--batch", "3")
            np.testing.assert_allclose(self.read("text"), expected, atol=1e-6 if name == "f32" else 0.05)

    def test_file(self):
        printed = self.embed("\r\n".join(PROMPTS), "--negative", "bad")
        self.assertIn("4 prompts, 12 x 16 bf16", printed)
        lengths = [5, LENGTH, 9, 2]  # characters without spaces and the end token; the second is cut
        self.assertEqual(self.read("text_length").tolist(), lengths)
        text = self.read("text")
        self.assertEqual(text.shape, (4, LENGTH, WIDTH))
        for row, length in zip(text, lengths):
            self.assertTrue((np.abs(row[:length]).max(1) > 0).all())
            self.assertTrue((row[length:] == 0).all())
        with h5py.File(self.output) as file:
            self.assertEqual(file["prompt"].asstr()[:].tolist(), CLEANED)
            self.assertEqual(dict(file.attrs), {"format": "tmd-latents", "version": 1, "negative_prompt": "bad",
                                                "text_encoder": self.model.name})
            self.assertEqual(file["text"].chunks, (1, LENGTH, WIDTH))
            self.assertEqual(file["negative_text"].shape, (LENGTH, WIDTH))
            self.assertEqual(file["negative_text_length"][()], 4)
            self.assertEqual(file["text_length"].dtype, np.int32)
        self.assertEqual([file.name for file in self.folder.glob("*.h5*")], ["prompts.h5"])

    def test_cut_prompts_are_named(self):
        printed = self.embed("cat\n" + "abc" * 10 + "\n", "--negative", "c" * LENGTH)
        self.assertIn(f"prompts.txt line 2 has 31 tokens and is cut to {LENGTH}", printed)
        self.assertIn(f"the negative prompt has {LENGTH + 1} tokens and is cut to {LENGTH}", printed)
        self.assertNotIn("line 1", printed)
        self.assertEqual(self.read("text_length").tolist(), [4, LENGTH])
        # The end token stands in the last row: a prompt that just fits has the same embedding.
        cut = self.read("text")[1]
        self.embed(("abc" * 10)[:LENGTH - 1])
        np.testing.assert_allclose(self.read("text")[0], cut, atol=0.05)

    def test_empty_lines(self):
        printed = self.embed("cat\n\n  \ndog\n")
        for number in (2, 3):
            self.assertIn(f"line {number} is empty", printed)
        self.assertEqual(self.read("text").shape[0], 2)

    def test_negative(self):
        self.embed("cat")
        with h5py.File(self.output) as file:
            self.assertNotIn("negative_text", file)
            self.assertNotIn("negative_prompt", file.attrs)
        negative = self.folder / "negative.txt"
        negative.write_text("bad\n  worse\n")
        self.embed("cat", "--negative-file", negative, "--name", "mine")
        with h5py.File(self.output) as file:
            self.assertEqual(file.attrs["negative_prompt"], "bad worse")
            self.assertEqual(file.attrs["text_encoder"], "mine")
            self.assertEqual(file["negative_text_length"][()], 9)
        self.embed("cat", "--negative", "")  # the empty prompt is one: its end token
        self.assertEqual(self.read("negative_text").any(1).sum(), 1)

    def test_other_encoder(self):
        self.embed("cat\ndog", encoder="bart")
        self.assertEqual(self.read("text").shape, (2, LENGTH, 8))
        with h5py.File(self.output) as file:
            self.assertEqual(file.attrs["text_encoder"], "bart")

    def test_as_a_program(self):
        done = subprocess.run([sys.executable, SCRIPTS / "embed_prompts.py", "--prompts", "x"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 64, done.stderr)
        self.assertIn("--encoder", done.stderr)

    def test_refusals(self):
        self.assertIn("no prompts", self.embed("\n  \n", code=65))
        self.assertIn("not UTF-8", self.embed(b"caf\xe9\n", code=65))
        self.assertIn("line 2 holds a zero byte", self.embed("cat\nd\0g\n", code=65))
        weights = self.folder / "models_t5_umt5-xxl-enc-bf16.pth"
        weights.write_text("x")
        self.assertIn("Diffusers layout", self.embed("cat", encoder=weights, code=65))
        self.assertIn("cannot load", self.embed("cat", encoder="none", code=65))
        self.embed("cat", "--negative", "a", "--negative-file", "b", code=64)
        self.embed("cat", "--length", "0", code=64)
        self.output = self.folder / "none/prompts.h5"
        self.embed("cat", code=74)

    def test_missing_weights(self):
        from safetensors.torch import load_file, save_file

        encoder = self.folder / "text_encoder"
        transformers.UMT5EncoderModel.from_pretrained(self.model / "text_encoder").save_pretrained(encoder)
        weights = load_file(encoder / "model.safetensors")
        name = "encoder.block.1.layer.0.SelfAttention.q.weight"
        del weights[name]
        save_file(weights, encoder / "model.safetensors", {"format": "pt"})
        self.assertIn(name, self.embed("cat", "--tokenizer", self.model / "tokenizer", encoder=encoder, code=65))
        self.assertFalse(self.output.exists())


if __name__ == "__main__":
    unittest.main()
