#!/usr/bin/env python3
"""Embeds prompts with a text encoder and writes them as a tmd-latents file without latents (docs/formats/tmd-latents.md).

    scripts/embed_prompts.py --encoder Wan2.1-T2V-1.3B-Diffusers/text_encoder --prompts prompts.txt --output prompts.h5

PROMPTS is UTF-8 text with one prompt a line; empty lines are left out with a warning. It needs torch, transformers, h5py and
ftfy (and sentencepiece for some tokenizers): `$(scripts/python-env | tail -n 1) scripts/embed_prompts.py ...` has them.

The encoder is any that transformers loads: a folder, or a name on the hub. Wan's own file models_t5_umt5-xxl-enc-bf16.pth is
not such a one: name the folder text_encoder of a Wan2.1 repository in the Diffusers layout; its tokenizer lies beside it in
the folder tokenizer.

A prompt is treated as Wan treats it: text repaired (ftfy), HTML entities resolved twice, white space collapsed; padded and cut
to --length tokens, the end token included; the encoder sees no padding; rows behind the text's end are zero.

Without --negative or --negative-file the file has no negative prompt. Wan samples its teacher with a long Chinese one: the
string sample_neg_prompt in wan/configs/shared_config.py of the original code (Wan-Video/Wan2.1). Put it into a text file and
name that as --negative-file.

Exit codes: 64 wrong command line, 65 bad input, 69 packages missing, 74 reading or writing failed.
"""
import argparse
import html
import importlib.util
import os
import sys
from pathlib import Path

EXIT_USAGE, EXIT_DATA, EXIT_UNAVAILABLE, EXIT_IO = 64, 65, 69, 74
PACKAGES = ("torch", "transformers", "h5py", "ftfy", "numpy")
WAN_HINT = ("Wan's .pth files are not read by transformers: name the folders text_encoder and tokenizer of a Wan2.1 repository "
            "in the Diffusers layout")


class BadInput(Exception):
    """What the user can mend: exit code 65."""


def warn(message):
    print(f"embed_prompts: warning: {message}", file=sys.stderr)


def parse(arguments):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            self.print_usage(sys.stderr)
            self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="folder or hub name of a text encoder")
    parser.add_argument("--tokenizer", help="folder or hub name; default: the encoder's, or the folder tokenizer beside it")
    parser.add_argument("--name", help="attribute text_encoder, which the files of one data set share; default: umt5-xxl for "
                                       "Wan's encoder, else from --encoder")
    parser.add_argument("--prompts", type=Path, required=True, help="UTF-8 text, one prompt a line")
    parser.add_argument("--output", type=Path, required=True, help="HDF5 file to write")
    parser.add_argument("--length", type=int, default=512, help="rows of an embedding (default 512, as Wan)")
    negative = parser.add_mutually_exclusive_group()
    negative.add_argument("--negative", metavar="TEXT", help="negative prompt; may be empty")
    negative.add_argument("--negative-file", type=Path, metavar="FILE", help="file with the negative prompt")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16", help="type of the encoder and of what is stored")
    parser.add_argument("--batch", type=int, default=8, help="prompts at once")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    options = parser.parse_args(arguments)
    if options.length < 1 or options.batch < 1:
        parser.error("--length and --batch must be at least 1")
    return options


def clean(text):
    """Wan's cleaning of a prompt."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def read_text(path):
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8: {error}") from error
    zero = text.find("\0")  # HDF5 cannot store it
    if zero >= 0:
        raise BadInput(f"{path} line {text.count(chr(10), 0, zero) + 1} holds a zero byte: this is no text")
    return text


def read_prompts(path):
    """[(line number, cleaned prompt)]"""
    prompts = []
    # Not splitlines(), which would also cut at Unicode separators within a prompt.
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), 1):
        prompt = clean(line)
        if prompt:
            prompts.append((number, prompt))
        else:
            warn(f"{path} line {number} is empty and left out")
    if not prompts:
        raise BadInput(f"{path}: no prompts")
    return prompts


class TextEncoder:
    """A tokenizer and an encoder of transformers, as Wan uses umT5."""

    def __init__(self, options):
        import torch
        import transformers

        self.length, self.device = options.length, options.device
        self.dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[options.dtype]
        if Path(options.encoder).is_file():
            raise BadInput(f"{options.encoder} is a file, expected a folder or a name\nhint: {WAN_HINT}")
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(options.tokenizer or self._tokenizer_of(options.encoder))
            config = transformers.AutoConfig.from_pretrained(options.encoder)
            self.model = self._load(transformers, config, options.encoder)
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot load {options.encoder}: {error}\nhint: {WAN_HINT}") from error
        if self.tokenizer.pad_token is None:
            raise BadInput("the tokenizer has no padding token")
        self.tokenizer.padding_side = "right"  # a text's rows come first
        self.name = options.name or self._name_of(config, options.encoder)

    def _load(self, transformers, config, source):
        """The encoder alone, without the decoder of an encoder-decoder model."""
        kind = {"umt5": transformers.UMT5EncoderModel, "t5": transformers.T5EncoderModel,
                "mt5": transformers.MT5EncoderModel}.get(config.model_type, transformers.AutoModel)
        model, info = kind.from_pretrained(source, dtype=self.dtype, output_loading_info=True)
        if info["missing_keys"]:  # transformers would go on with random numbers
            raise BadInput(f"{source} lacks weights of {kind.__name__}: {', '.join(sorted(info['missing_keys'])[:20])}")
        if kind is transformers.AutoModel and config.is_encoder_decoder:
            model = model.get_encoder()
        return model.to(self.device).eval()

    @staticmethod
    def _tokenizer_of(encoder):
        beside = Path(encoder).parent / "tokenizer"
        own = (Path(encoder) / "tokenizer_config.json").exists()
        return str(beside) if not own and Path(encoder).is_dir() and beside.is_dir() else encoder

    @staticmethod
    def _name_of(config, encoder):
        if config.model_type == "umt5" and config.d_model == 4096:
            return "umt5-xxl"
        path = Path(encoder).resolve() if Path(encoder).is_dir() else Path(encoder)
        return path.parent.name if path.name == "text_encoder" else path.name

    def tokens_of(self, prompt):
        """Tokens of the whole prompt, the end token included."""
        return len(self.tokenizer(prompt, add_special_tokens=True, truncation=False, verbose=False).input_ids)

    def embed(self, prompts):
        """Rows [B, length, E] in self.dtype on the CPU, and how many of each hold text."""
        import torch

        tokens = self.tokenizer(prompts, padding="max_length", max_length=self.length, truncation=True,
                                add_special_tokens=True, return_attention_mask=True, return_tensors="pt").to(self.device)
        with torch.no_grad():
            rows = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        mask = tokens.attention_mask.bool()
        rows = torch.where(mask[:, :, None], rows, 0).to("cpu", self.dtype)  # where: padding may hold anything
        return rows, mask.sum(1).cpu().tolist()


def stored(rows):
    """A tensor as numpy array for the file: float32, or bfloat16 as uint16."""
    import numpy as np
    import torch

    return rows.view(torch.int16).numpy().view(np.uint16) if rows.dtype == torch.bfloat16 else rows.numpy()


class PromptFile:
    """The HDF5 file that is written; it appears under its name when it is complete."""

    def __init__(self, path, encoder):
        import h5py

        self.path, self.partial = path, path.with_name(f"{path.name}.tmp-{os.getpid()}")
        self.file = h5py.File(self.partial, "w")
        self.file.attrs.update(format="tmd-latents", version=1, text_encoder=encoder)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink(missing_ok=True)

    def rows(self, name, array, shape, **layout):
        """The data set `name`, made on the first call for it."""
        if name not in self.file:
            self.file.create_dataset(name, shape, array.dtype, **layout)
            if array.dtype.name == "uint16":
                self.file[name].attrs["dtype"] = "bfloat16"
        return self.file[name]


def warn_of_cuts(encoder, what, prompt):
    tokens = encoder.tokens_of(prompt)
    if tokens > encoder.length:
        warn(f"{what} has {tokens} tokens and is cut to {encoder.length}")


def embed_checked(encoder, what, prompts):
    rows, lengths = encoder.embed(prompts)
    if not rows.isfinite().all():
        raise BadInput(f"the encoder gives non-finite numbers for {what}; try --dtype f32")
    return stored(rows), lengths


def write(options, prompts, negative, encoder):
    """Returns the shape [S, E] of an embedding."""
    import numpy as np

    with PromptFile(options.output, encoder.name) as file:
        all_lengths = []
        for begin in range(0, len(prompts), options.batch):
            part = prompts[begin:begin + options.batch]
            for number, prompt in part:
                warn_of_cuts(encoder, f"{options.prompts} line {number}", prompt)
            what = f"{options.prompts} lines {part[0][0]} to {part[-1][0]}"
            array, lengths = embed_checked(encoder, what, [prompt for _, prompt in part])
            shape = array.shape[1:]
            file.rows("text", array, (len(prompts), *shape), chunks=(1, *shape))[begin:begin + len(part)] = array
            all_lengths += lengths
        file.file["text_length"] = np.array(all_lengths, np.int32)
        file.file["prompt"] = [prompt for _, prompt in prompts]
        if negative is not None:
            warn_of_cuts(encoder, "the negative prompt", negative)
            array, lengths = embed_checked(encoder, "the negative prompt", [negative])
            file.rows("negative_text", array[0], shape)[:] = array[0]
            file.file["negative_text_length"] = np.int32(lengths[0])
            file.file.attrs["negative_prompt"] = negative
    return shape


def run(options):
    if not options.output.parent.is_dir():  # refused before the work, not after it
        raise NotADirectoryError(f"{options.output.parent}: no such folder")
    prompts = read_prompts(options.prompts)
    negative = options.negative
    if options.negative_file:
        negative = read_text(options.negative_file)
    encoder = TextEncoder(options)
    rows, features = write(options, prompts, None if negative is None else clean(negative), encoder)
    print(f"{options.output}: {len(prompts)} prompts, {rows} x {features} {options.dtype}, text_encoder {encoder.name}")


def main(arguments=None):
    options = parse(sys.argv[1:] if arguments is None else arguments)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        print(f"embed_prompts: this Python lacks {', '.join(missing)}; the one that scripts/python-env prints has all",
              file=sys.stderr)
        return EXIT_UNAVAILABLE
    try:
        run(options)
    except BadInput as error:
        print(f"embed_prompts: {error}", file=sys.stderr)
        return EXIT_DATA
    except OSError as error:
        print(f"embed_prompts: {error}", file=sys.stderr)
        return EXIT_IO
    return 0


if __name__ == "__main__":
    sys.exit(main())
